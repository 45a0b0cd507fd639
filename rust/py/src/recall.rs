//! `Candidates`: what single vectors find, compared with what should be found.

use chandelier::Cpu;
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::detach::{detached, detached_with_progress};

type Vectors<'py> = PyReadonlyArray2<'py, f32>;

/// For every query the best vectors so far.
#[pyclass(module = "chandelier._core")]
pub(crate) struct Candidates {
    inner: chandelier::Candidates,
}

#[pymethods]
impl Candidates {
    #[new]
    fn new(queries: usize, depth: usize) -> Self {
        Self { inner: chandelier::Candidates::new(queries, depth) }
    }

    /// Looks through further vectors, (vectors, size), for queries (queries, size).
    fn add(&mut self, py: Python<'_>, queries: Vectors<'_>, vectors: Vectors<'_>) -> PyResult<()> {
        let size = queries.shape()[1];
        let (queries, vectors) = (queries.as_slice()?, vectors.as_slice()?);
        let inner = &mut self.inner;
        detached_with_progress(py, None, move |observer| {
            inner.add(queries, vectors, size, Cpu::detect()?, observer)
        })
    }

    /// For each depth the mean share of the wanted (queries, k), and its interval.
    fn recall(
        &self,
        py: Python<'_>,
        wanted: PyReadonlyArray2<'_, i64>,
        depths: Vec<usize>,
    ) -> PyResult<Vec<(f64, f64, f64)>> {
        let wanted: Vec<Vec<usize>> = wanted
            .as_array()
            .rows()
            .into_iter()
            .map(|row| row.iter().map(|x| *x as usize).collect())
            .collect();
        detached(py, || {
            let share =
                |depth| self.inner.recall(&wanted, depth).map(|share| (share.mean, share.low, share.high));
            depths.into_iter().map(share).collect()
        })
    }
}

/// The mean share of the wanted that was found, and its interval.
#[pyfunction]
pub(crate) fn share_found(
    py: Python<'_>,
    found: Vec<Vec<String>>,
    wanted: Vec<Vec<String>>,
) -> PyResult<(f64, f64, f64)> {
    let share = detached(py, || chandelier::share_found(&found, &wanted))?;
    Ok((share.mean, share.low, share.high))
}
