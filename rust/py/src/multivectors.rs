//! Multi-vectors to and from files.

use std::borrow::Cow;
use std::path::PathBuf;

use chandelier::storage::{self, Rows};
use half::f16;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{matrix, offsets_from_numpy, offsets_to_numpy};
use crate::detach::detached;

/// Rows as numpy has them.
#[derive(FromPyObject)]
pub(crate) enum Data<'py> {
    Single(PyReadonlyArray2<'py, f32>),
    Half(PyReadonlyArray2<'py, f16>),
}

/// Writes rows (n, dim), float32 or float16, and offsets (texts + 1,) to a safetensors file.
#[pyfunction]
pub(crate) fn save_multivectors(
    py: Python<'_>,
    path: PathBuf,
    data: Data<'_>,
    offsets: PyReadonlyArray1<'_, i64>,
) -> PyResult<()> {
    let (rows, dim) = match &data {
        Data::Single(data) => (Rows::F32(Cow::Borrowed(data.as_slice()?)), data.shape()[1]),
        Data::Half(data) => (Rows::F16(Cow::Borrowed(data.as_slice()?)), data.shape()[1]),
    };
    let offsets = offsets_from_numpy(&offsets)?;
    detached(py, move || storage::save(&path, &rows, &offsets, dim))
}

/// Reads rows (n, dim) and offsets (texts + 1,).
#[pyfunction]
pub(crate) fn load_multivectors<'py>(
    py: Python<'py>,
    path: PathBuf,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyArray1<i64>>)> {
    let (rows, offsets, dim) = detached(py, move || {
        let stored = storage::load(&path)?;
        Ok((stored.rows, offsets_to_numpy(stored.offsets)?, stored.dim))
    })?;
    let data = match rows {
        Rows::F32(rows) => matrix(py, (rows.len() / dim, dim), rows.into_owned())?.into_any(),
        Rows::F16(rows) => matrix(py, (rows.len() / dim, dim), rows.into_owned())?.into_any(),
    };
    Ok((data, offsets.into_pyarray(py)))
}
