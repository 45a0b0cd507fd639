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
    place: Place<'a>,
    dim: usize,
    /// The indices of those that were selected, if not all.
    subset: Option<Vec<usize>>,
}

#[derive(Debug, Clone)]
enum Place<'a> {
    Joined(MatrixView<'a>, &'a [usize]),
    List(Vec<MatrixView<'a>>),
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
        Ok(Self { place: Place::List(matrices), dim, subset: None })
    }

    /// Rows of `dim` values that lie end to end; those of text `i` are `offsets[i]..offsets[i + 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the parts do not fit together.
    pub fn joined(rows: MatrixView<'a>, offsets: &'a [usize], dim: usize) -> Result<Self> {
        MultiVectorsView::check(rows.len(), offsets, dim)?;
        Ok(Self { place: Place::Joined(rows, offsets), dim, subset: None })
    }

    /// Those of the texts at `subset`, indices that rise. Errors and [`top_k`](crate::top_k) go on calling each by its
    /// index among all; the others are not looked at.
    ///
    /// # Errors
    /// [`Error::Argument`] if an index does not rise or there is no such text; it names the index.
    ///
    /// ```
    /// use chandelier::{Cpu, Matrices, MultiVectors, top_k};
    /// let documents = MultiVectors::new(vec![1.0, 0.25, 0.5], vec![0, 1, 2, 3], 1)?;
    /// let last_two = Matrices::from(&documents).select(&[1, 2])?;
    /// let best = top_k(&[1.0], &last_two, 1, Cpu::detect()?, &mut |_| Ok(()))?;
    /// assert_eq!(best, [(2, 0.5)]);
    /// # Ok::<(), chandelier::Error>(())
    /// ```
    pub fn select(self, subset: &[usize]) -> Result<Self> {
        if let Some(at) = subset.windows(2).position(|pair| pair[0] >= pair[1]) {
            let got = format!("{} and then {} at [{}]", subset[at], subset[at + 1], at + 1);
            return Err(Error::argument("subset", got, "indices that rise, each once"));
        }
        let beyond = subset.partition_point(|index| *index < self.len());
        if let Some(index) = subset.get(beyond) {
            let wanted = format!("indices below {}, the number of texts", self.len());
            return Err(Error::argument("subset", format!("{index} at [{beyond}]"), wanted));
        }
        let subset = subset.iter().map(|index| self.original(*index)).collect();
        Ok(Self { subset: Some(subset), ..self })
    }

    /// The index that text `index` had before it was selected.
    ///
    /// # Panics
    /// If there is no such text.
    pub fn original(&self, index: usize) -> usize {
        self.subset.as_ref().map_or(index, |subset| subset[index])
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        match (&self.subset, &self.place) {
            (Some(subset), _) => subset.len(),
            (None, Place::Joined(_, offsets)) => offsets.len() - 1,
            (None, Place::List(matrices)) => matrices.len(),
        }
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let index = self.original(index);
        match &self.place {
            Place::Joined(rows, offsets) => {
                rows.slice(offsets[index] * self.dim..offsets[index + 1] * self.dim)
            }
            Place::List(matrices) => matrices[index],
        }
    }

    /// The number of rows of text `index`.
    pub(crate) fn rows(&self, index: usize) -> usize {
        self.get(index).len() / self.dim
    }
}

impl<'a> From<MultiVectorsView<'a>> for Matrices<'a> {
    fn from(view: MultiVectorsView<'a>) -> Self {
        let place = Place::Joined(MatrixView::Float32(view.data()), view.offsets());
        Self { place, dim: view.dim(), subset: None }
    }
}

impl<'a> From<&'a MultiVectors> for Matrices<'a> {
    fn from(vectors: &'a MultiVectors) -> Self {
        vectors.view().into()
    }
}
