//! [`Matrices`]: several texts' matrices as they lie in memory, in one piece or in many, in either precision.

use half::f16;

use crate::error::{Error, Result};
use crate::kernels::{Simd, widen};
use crate::multivectors::{MultiVectors, MultiVectorsView};

/// A borrowed matrix, row after row.
#[derive(Debug, Clone, Copy)]
pub enum MatrixView<'a> {
    /// Single precision.
    Float32(&'a [f32]),
    /// Half precision, for storage: arithmetic is done in single precision.
    Float16(&'a [f16]),
}

impl<'a> MatrixView<'a> {
    /// The number of values.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Float32(values) => values.len(),
            Self::Float16(values) => values.len(),
        }
    }

    pub(crate) fn slice(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Float32(values) => Self::Float32(&values[range]),
            Self::Float16(values) => Self::Float16(&values[range]),
        }
    }

    /// The values in single precision: borrowed if they are, else written to `scratch`.
    pub(crate) fn widened<'s>(self, simd: Simd, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Self::Float32(values) => values,
            Self::Float16(values) => {
                scratch.resize(values.len(), 0.0);
                widen(simd, values, scratch);
                scratch
            }
        }
    }

    /// Where a value stands that is not finite, and what it is.
    pub(crate) fn not_finite(self) -> Option<(usize, f32)> {
        let find = |values: &mut dyn Iterator<Item = f32>| values.enumerate().find(|(_, x)| !x.is_finite());
        match self {
            Self::Float32(values) => find(&mut values.iter().copied()),
            Self::Float16(values) => find(&mut values.iter().map(|x| x.to_f32())),
        }
    }
}

/// Borrowed matrices `(tokens, dim)` of several texts, wherever each of them lies. Nothing is copied.
#[derive(Debug, Clone)]
pub struct Matrices<'a> {
    matrices: Vec<MatrixView<'a>>,
    dim: usize,
}

impl<'a> Matrices<'a> {
    /// Matrices of rows of `dim` values.
    ///
    /// # Errors
    /// [`Error::Shape`] if `dim` is 0 or a matrix does not consist of whole rows; it names the matrix.
    pub fn new(matrices: Vec<MatrixView<'a>>, dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(Error::shape("dim", 0, "at least 1"));
        }
        if let Some(index) = matrices.iter().position(|matrix| !matrix.len().is_multiple_of(dim)) {
            let got = format!("{} values", matrices[index].len());
            return Err(Error::shape(format!("matrices[{index}]"), got, format!("whole rows of {dim}")));
        }
        Ok(Self { matrices, dim })
    }

    /// Rows of `dim` values that lie end to end; those of text `i` are `offsets[i]..offsets[i + 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the parts do not fit together.
    pub fn joined(rows: MatrixView<'a>, offsets: &[usize], dim: usize) -> Result<Self> {
        MultiVectorsView::check(rows.len(), offsets, dim)?;
        let matrices = offsets.windows(2).map(|ends| rows.slice(ends[0] * dim..ends[1] * dim)).collect();
        Ok(Self { matrices, dim })
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.matrices.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.matrices.is_empty()
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The matrix of text `index`.
    ///
    /// # Panics
    /// If there is no such text.
    pub fn get(&self, index: usize) -> MatrixView<'a> {
        self.matrices[index]
    }

    /// The number of rows of text `index`.
    pub(crate) fn rows(&self, index: usize) -> usize {
        self.matrices[index].len() / self.dim
    }
}

impl<'a> From<MultiVectorsView<'a>> for Matrices<'a> {
    fn from(view: MultiVectorsView<'a>) -> Self {
        Self { matrices: view.iter().map(MatrixView::Float32).collect(), dim: view.dim() }
    }
}

impl<'a> From<&'a MultiVectors> for Matrices<'a> {
    fn from(vectors: &'a MultiVectors) -> Self {
        vectors.view().into()
    }
}
