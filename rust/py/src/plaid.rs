//! `PlaidBuilder` and `PlaidSegment`: the core's, with numpy on both sides.

use std::path::PathBuf;

use chandelier::{Cpu, Error, PlaidSearch};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods, ToPyArray};
use pyo3::prelude::*;

use crate::arrays::{Data, offsets_from_numpy};
use crate::detach::{detached, detached_with_progress};
use crate::errors;

/// Places and scores.
type Best<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f32>>);

/// Documents on their way into a segment.
#[pyclass(module = "chandelier._core")]
pub(crate) struct PlaidBuilder {
    inner: chandelier::PlaidBuilder,
}

#[pymethods]
impl PlaidBuilder {
    #[new]
    fn new(py: Python<'_>, sample: Data<'_>, nbits: usize, partitions: usize) -> PyResult<Self> {
        let (dim, view) = (sample.dim(), sample.view()?);
        let inner = detached_with_progress(py, None, move |observer| {
            chandelier::PlaidBuilder::train(view, dim, nbits, partitions, Cpu::detect()?, observer)
        })?;
        Ok(Self { inner })
    }

    /// Takes documents: their numbers (documents,), all rows (tokens, dim), and where each document's begin.
    fn add(
        &mut self,
        py: Python<'_>,
        rows: PyReadonlyArray1<'_, i64>,
        data: Data<'_>,
        offsets: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<()> {
        let (rows, view, offsets) = (rows.as_slice()?, data.view()?, offsets_from_numpy(&offsets)?);
        let inner = &mut self.inner;
        detached_with_progress(py, None, move |observer| {
            inner.add(rows, view, &offsets, Cpu::detect()?, observer)
        })
    }

    /// Writes the segment's file, whole or not at all.
    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || self.inner.write(&path))
    }
}

/// A mapped segment. Nothing in it changes, so threads may share it.
#[pyclass(frozen, module = "chandelier._core")]
pub(crate) struct PlaidSegment {
    inner: chandelier::PlaidSegment,
}

#[pymethods]
impl PlaidSegment {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self { inner: detached(py, || chandelier::PlaidSegment::open(&path))? })
    }

    /// The number of each document (documents,), rising.
    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.inner.rows().to_pyarray(py)
    }

    /// The number of documents.
    #[getter]
    fn documents(&self) -> usize {
        self.inner.rows().len()
    }

    /// The number of rows of all documents.
    #[getter]
    fn tokens(&self) -> usize {
        self.inner.tokens()
    }

    /// The length of a row.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// Bits a value of a residual.
    #[getter]
    fn nbits(&self) -> usize {
        self.inner.nbits()
    }

    /// The number of centroids.
    #[getter]
    fn partitions(&self) -> usize {
        self.inner.partitions()
    }

    /// The places of the k documents that seem best for a query (tokens, dim), and about their scores, best first.
    fn search<'py>(
        &self,
        py: Python<'py>,
        query: PyReadonlyArray2<'py, f32>,
        k: usize,
        n_ivf_probe: Option<usize>,
        n_full_scores: usize,
        places: Option<PyReadonlyArray1<'py, i64>>,
    ) -> PyResult<Best<'py>> {
        if query.shape()[1] != self.inner.dim() {
            let (what, got) = ("query".into(), format!("rows of {}", query.shape()[1]));
            let error = Error::Shape { what, got, wanted: format!("rows of {}", self.inner.dim()) };
            return Err(errors::to_python(py, &error));
        }
        let (query, options) = (query.as_slice()?, PlaidSearch { k, n_ivf_probe, n_full_scores });
        // A number that is none of a document becomes one that is none either.
        let narrow = |place: &i64| u32::try_from(*place).unwrap_or(u32::MAX);
        let places: Option<Vec<u32>> = match &places {
            Some(places) => Some(places.as_slice()?.iter().map(narrow).collect()),
            None => None,
        };
        let found = detached_with_progress(py, None, move |observer| {
            self.inner.search(query, options, places.as_deref(), Cpu::detect()?, observer)
        })?;
        let (places, scores): (Vec<i64>, Vec<f32>) =
            found.into_iter().map(|(place, score)| (i64::from(place), score)).unzip();
        Ok((places.into_pyarray(py), scores.into_pyarray(py)))
    }
}

/// The number of centroids for so many rows.
#[pyfunction]
pub(crate) fn plaid_partitions(tokens: usize) -> usize {
    chandelier::plaid_partitions(tokens)
}
