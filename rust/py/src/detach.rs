//! The one door to the core for long calls: drop the GIL, heed Ctrl-C, convert the error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chandelier::{Error, Result};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::errors;

/// Runs `work` without the GIL.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    match outcome {
        Ok(result) => result.map_err(|e| errors::to_python(py, &e)),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
            Err(errors::internal(py, &format!("internal error: {message}")))
        }
    }
}

/// The same for work that reports how far it is: Ctrl-C ends it, and so does an error of `on_progress`, which is
/// called with the number of texts done.
pub(crate) fn detached_with_progress<T: Send>(
    py: Python<'_>,
    on_progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&mut dyn FnMut(usize) -> Result<()>) -> Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let outcome = detached(py, || {
        let mut observer = |done: usize| {
            // No interpreter any more: the process is ending, and so does the work.
            let asked = Python::try_attach(|py| {
                py.check_signals()?;
                on_progress.map_or(Ok(()), |callback| callback.call1(py, (done,)).map(drop))
            });
            asked.unwrap_or_else(|| Err(PyKeyboardInterrupt::new_err(()))).map_err(|error| {
                raised = Some(error);
                Error::Interrupted
            })
        };
        work(&mut observer)
    });
    match raised {
        Some(error) => Err(error),
        None => outcome,
    }
}
