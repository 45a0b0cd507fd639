//! One class of `chandelier.exceptions` for each kind of core error; files and interrupts become builtins.

use chandelier::Error;
use pyo3::exceptions::{PyFileNotFoundError, PyKeyboardInterrupt, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

/// The Python exception for a core error.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Missing { path, problem } => {
            PyFileNotFoundError::new_err((NO_SUCH_FILE, problem.clone(), path.display().to_string()))
        }
        Error::Io { path, source } => {
            PyOSError::new_err((source.raw_os_error(), source.to_string(), path.display().to_string()))
        }
        Error::Model { file, key, .. } => {
            let fields = [("file", file.display().to_string()), ("key", key.clone())];
            raise(py, "ModelError", &message, fields.into_py_dict(py))
        }
        // `texts[3]` is one of the argument `texts`.
        Error::Argument { name, .. } => argument(py, name.split('[').next().unwrap_or(name), &message),
        Error::Shape { .. } => raise(py, "ShapeError", &message, Ok(PyDict::new(py))),
        Error::Device { .. } => raise(py, "DeviceError", &message, Ok(PyDict::new(py))),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => internal(py, &message),
    }
}

/// `ENOENT`, with which Python gives an `OSError` its subclass.
const NO_SUCH_FILE: i32 = 2;

/// An `ArgumentError` about the argument `name`.
pub(crate) fn argument(py: Python<'_>, name: &str, message: &str) -> PyErr {
    raise(py, "ArgumentError", message, [("argument", name)].into_py_dict(py))
}

/// A defect of chandelier, not of the input: still an `Exception`, never a panic.
pub(crate) fn internal(py: Python<'_>, message: &str) -> PyErr {
    let message = format!("{message}; this is a defect of chandelier, please report it");
    raise(py, "ChandelierError", &message, Ok(PyDict::new(py)))
}

fn raise(py: Python<'_>, class: &str, message: &str, fields: PyResult<Bound<'_, PyDict>>) -> PyErr {
    let make = || -> PyResult<PyErr> {
        let class = py.import("chandelier.exceptions")?.getattr(class)?;
        Ok(PyErr::from_value(class.call((message,), Some(&fields?))?))
    };
    make().unwrap_or_else(|failed| failed)
}
