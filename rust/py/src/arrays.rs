//! numpy <-> core.

use chandelier::{Error, Matrices, MatrixView, Result};
use half::f16;
use numpy::ndarray::Array2;
use numpy::{
    Element, IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
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

/// A matrix as numpy has it; the facade has made it C-contiguous.
///
/// Not borrowed by numpy's own table of borrows: that compares every array with all others of the same base, which for
/// a hundred thousand views of one array takes a minute. Nothing in this crate writes to an array of the caller's.
#[derive(FromPyObject)]
pub(crate) enum Data<'py> {
    Single(Bound<'py, PyArray2<f32>>),
    Half(Bound<'py, PyArray2<f16>>),
}

impl Data<'_> {
    /// The length of a row.
    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::Single(data) => data.shape()[1],
            Self::Half(data) => data.shape()[1],
        }
    }

    pub(crate) fn view(&self) -> PyResult<MatrixView<'_>> {
        // SAFETY: the arrays live as long as `self`, and no Rust code writes to them. A thread of Python that does so
        // during a call spoils its result, as with any function of numpy.
        Ok(unsafe {
            match self {
                Self::Single(data) => MatrixView::Float32(data.as_slice()?),
                Self::Half(data) => MatrixView::Float16(data.as_slice()?),
            }
        })
    }
}

/// Several texts' matrices, borrowed from numpy where they lie: in one piece, or each for itself.
pub(crate) enum Texts<'py> {
    Joined(Data<'py>, Vec<usize>),
    List(Vec<Data<'py>>),
}

impl<'py> Texts<'py> {
    /// All rows and where each text's begin, or a list of matrices and None.
    pub(crate) fn new(
        rows: &Bound<'py, PyAny>,
        offsets: Option<&PyReadonlyArray1<'py, i64>>,
    ) -> PyResult<Self> {
        Ok(match offsets {
            Some(offsets) => Self::Joined(rows.extract()?, offsets_from_numpy(offsets)?),
            None => Self::List(rows.extract()?),
        })
    }

    /// The same for the core; `dim` is the length of a row where there is none.
    pub(crate) fn view(&self, dim: usize) -> PyResult<Result<Matrices<'_>>> {
        Ok(match self {
            Self::Joined(data, offsets) => Matrices::joined(data.view()?, offsets, data.dim()),
            Self::List(list) => Matrices::new(list.iter().map(Data::view).collect::<PyResult<_>>()?, dim),
        })
    }
}

/// Those of the texts at the indices of `subset`, if there is one.
pub(crate) fn selected<'a>(
    texts: Result<Matrices<'a>>,
    subset: Option<&PyReadonlyArray1<'_, i64>>,
) -> PyResult<Result<Matrices<'a>>> {
    let Some(subset) = subset else { return Ok(texts) };
    let negative = |at: usize, index: i64| {
        let (got, wanted) = (format!("{index} at [{at}]"), "indices from 0".into());
        errors::to_python(subset.py(), &Error::Argument { name: "subset".into(), got, wanted })
    };
    let indices = from_int64(subset.as_slice()?).map_err(|(at, index)| negative(at, index))?;
    Ok(texts.and_then(|texts| texts.select(&indices)))
}

/// numpy counts in int64.
pub(crate) fn offsets_from_numpy(offsets: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let negative = |offset: i64| {
        let error =
            Error::Shape { what: "offsets".into(), got: offset.to_string(), wanted: "0 or more".into() };
        errors::to_python(offsets.py(), &error)
    };
    from_int64(offsets.as_slice()?).map_err(|(_, offset)| negative(offset))
}

/// The same numbers, or the first that is negative and where it stands. In two passes, each of which looks at several
/// at once: there may be millions.
fn from_int64(numbers: &[i64]) -> std::result::Result<Vec<usize>, (usize, i64)> {
    match numbers.iter().position(|number| *number < 0) {
        Some(at) => Err((at, numbers[at])),
        None => Ok(numbers.iter().map(|number| *number as usize).collect()),
    }
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
