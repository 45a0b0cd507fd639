//! Multi-vectors to and from files, and rows that a user brings.

use std::borrow::Cow;
use std::path::PathBuf;

use chandelier::MatrixView;
use chandelier::storage::{self, Rows};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{Data, matrix, offsets_from_numpy, offsets_to_numpy};
use crate::detach::detached;

/// Refuses rows (n, dim) that no model would have made.
#[pyfunction]
pub(crate) fn check_rows(
    py: Python<'_>,
    name: &str,
    rows: PyReadonlyArray2<'_, f32>,
    unit: bool,
) -> PyResult<()> {
    let (dim, rows) = (rows.shape()[1], rows.as_slice()?);
    detached(py, move || chandelier::check_rows(name, rows, dim, unit))
}

/// Writes rows (n, dim), float32 or float16, and offsets (texts + 1,) to a safetensors file.
#[pyfunction]
pub(crate) fn save_multivectors(
    py: Python<'_>,
    path: PathBuf,
    data: Data<'_>,
    offsets: PyReadonlyArray1<'_, i64>,
) -> PyResult<()> {
    let dim = data.dim();
    let rows = match data.view()? {
        MatrixView::Float32(rows) => Rows::F32(Cow::Borrowed(rows)),
        MatrixView::Float16(rows) => Rows::F16(Cow::Borrowed(rows)),
    };
    let offsets = offsets_from_numpy(&offsets)?;
    detached(py, move || storage::save(&path, &rows, &offsets, dim))
}

/// Each value in half precision, as the double with the fewest digits.
#[pyfunction]
pub(crate) fn short_decimals<'py>(
    py: Python<'py>,
    values: PyReadonlyArray1<'py, f32>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let values = values.as_slice()?;
    Ok(detached(py, move || Ok(chandelier::short_decimals(values)))?.into_pyarray(py))
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

/// Where rows lie in a file: whether they are float16, the first byte, the length of a row, and offsets (texts + 1,).
#[pyfunction]
pub(crate) fn locate_multivectors(
    py: Python<'_>,
    path: PathBuf,
) -> PyResult<(bool, usize, usize, Bound<'_, PyArray1<i64>>)> {
    let (half, start, dim, offsets) = detached(py, move || {
        let found = storage::locate(&path)?;
        Ok((found.half, found.start, found.dim, offsets_to_numpy(found.offsets)?))
    })?;
    Ok((half, start, dim, offsets.into_pyarray(py)))
}
