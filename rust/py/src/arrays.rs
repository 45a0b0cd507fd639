//! numpy <-> core.

use chandelier::{Error, Result};
use numpy::ndarray::Array2;
use numpy::{Element, IntoPyArray, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::errors;

/// Flat rows and offsets borrowed from numpy; the facade has made them C-contiguous.
pub(crate) struct Ragged<'py> {
    data: PyReadonlyArray2<'py, f32>,
    offsets: Vec<usize>,
}

impl<'py> Ragged<'py> {
    pub(crate) fn new(
        data: PyReadonlyArray2<'py, f32>,
        offsets: &PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Self> {
        let offsets = offsets_from_numpy(offsets)?;
        Ok(Self { data, offsets })
    }

    /// The parts for a view: values, offsets, dim.
    pub(crate) fn parts(&self) -> PyResult<(&[f32], &[usize], usize)> {
        Ok((self.data.as_slice()?, &self.offsets, self.data.shape()[1]))
    }
}

/// numpy counts in int64.
pub(crate) fn offsets_from_numpy(offsets: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let negative = |offset: &i64| {
        let error =
            Error::Shape { what: "offsets".into(), got: offset.to_string(), wanted: "0 or more".into() };
        errors::to_python(offsets.py(), &error)
    };
    offsets.as_array().iter().map(|offset| usize::try_from(*offset).map_err(|_| negative(offset))).collect()
}

/// numpy counts in int64.
pub(crate) fn offsets_to_numpy(offsets: Vec<usize>) -> Result<Vec<i64>> {
    let too_large = |got| Error::Shape { what: "offsets".into(), got, wanted: "at most 2^63 - 1".into() };
    offsets.into_iter().map(|o| i64::try_from(o).map_err(|_| too_large(o.to_string()))).collect()
}

/// Values as a numpy matrix that owns them, so that Python can lock it for good.
pub(crate) fn matrix<T: Element>(
    py: Python<'_>,
    (rows, dim): (usize, usize),
    values: Vec<T>,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    let array = Array2::from_shape_vec((rows, dim), values);
    Ok(array.map_err(|e| errors::internal(py, &e.to_string()))?.into_pyarray(py))
}
