//! [`MultiVectors`]: one matrix a text, stored end to end. The one value that flows on from the encoder.

use crate::error::{Error, Result};
use crate::memory;

/// Matrices `(tokens, dim)` of several texts, flat: the rows of text `i` are `offsets[i]..offsets[i + 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiVectors {
    data: Vec<f32>,
    offsets: Vec<usize>,
    dim: usize,
}

/// The place of one text's rows in a result that is being computed.
pub(crate) struct Slot<'a> {
    /// Room for the most rows that the text can have.
    pub(crate) data: &'a mut [f32],
    /// How many rows it has; as many as there is room for, unless set.
    pub(crate) rows: &'a mut usize,
}

/// A borrowed [`MultiVectors`].
#[derive(Debug, Clone, Copy)]
pub struct MultiVectorsView<'a> {
    data: &'a [f32],
    offsets: &'a [usize],
    dim: usize,
}

impl MultiVectors {
    /// Joins `data` (rows of `dim` values) and `offsets` (one more than there are texts).
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit together.
    pub fn new(data: Vec<f32>, offsets: Vec<usize>, dim: usize) -> Result<Self> {
        MultiVectorsView::new(&data, &offsets, dim)?;
        Ok(Self { data, offsets, dim })
    }

    /// Matrices that are written straight to their places: `fill` gets a slot a text, with room for the `most` rows of
    /// each, and where it wrote fewer the gaps are closed.
    pub(crate) fn filled(
        most: &[usize],
        dim: usize,
        fill: impl FnOnce(Vec<Slot>) -> Result<()>,
    ) -> Result<Self> {
        let mut data = memory::zeros(most.iter().sum::<usize>() * dim);
        let mut rows = most.to_vec();
        let mut slots = Vec::with_capacity(most.len());
        let mut rest = data.as_mut_slice();
        for (rows, most) in rows.iter_mut().zip(most) {
            let (slot, after) = rest.split_at_mut(most * dim);
            slots.push(Slot { data: slot, rows });
            rest = after;
        }
        fill(slots)?;
        let mut offsets = vec![0];
        let (mut start, mut end) = (0, 0);
        for (rows, most) in rows.iter().zip(most) {
            if start > end {
                data.copy_within(start * dim..(start + rows) * dim, end * dim);
            }
            (start, end) = (start + most, end + rows);
            offsets.push(end);
        }
        data.truncate(end * dim);
        Self::new(data, offsets, dim)
    }

    /// All rows, one after the other.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Where each text's rows begin, and at the end how many rows there are.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The matrix of text `index`, row after row.
    ///
    /// # Panics
    /// If there is no such text.
    pub fn get(&self, index: usize) -> &[f32] {
        self.view().get(index)
    }

    /// The same, borrowed.
    pub fn view(&self) -> MultiVectorsView<'_> {
        MultiVectorsView { data: &self.data, offsets: &self.offsets, dim: self.dim }
    }

    /// Gives up the parts: data, offsets, dim.
    pub fn into_parts(self) -> (Vec<f32>, Vec<usize>, usize) {
        (self.data, self.offsets, self.dim)
    }
}

impl<'a> MultiVectorsView<'a> {
    /// Joins borrowed parts; see [`MultiVectors::new`].
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit together.
    pub fn new(data: &'a [f32], offsets: &'a [usize], dim: usize) -> Result<Self> {
        Self::check(data.len(), offsets, dim)?;
        Ok(Self { data, offsets, dim })
    }

    /// Whether `values` values in rows of `dim` and these offsets fit together.
    pub(crate) fn check(values: usize, offsets: &[usize], dim: usize) -> Result<()> {
        if dim == 0 {
            return Err(Error::shape("dim", 0, "at least 1"));
        }
        if !values.is_multiple_of(dim) {
            return Err(Error::shape("data", format!("{values} values"), format!("whole rows of {dim}")));
        }
        let rows = values / dim;
        let (first, last) = match offsets {
            [first, .., last] => (*first, *last),
            [only] => (*only, *only),
            [] => return Err(Error::shape("offsets", "none", "one more than there are texts")),
        };
        if (first, last) != (0, rows) {
            let wanted = format!("from 0 to {rows}, the number of rows");
            return Err(Error::shape("offsets", format!("from {first} to {last}"), wanted));
        }
        // `is_sorted` looks at many at once: there may be millions.
        if !offsets.is_sorted()
            && let Some(index) = offsets.windows(2).position(|w| w[0] > w[1])
        {
            let (from, to) = (offsets[index], offsets[index + 1]);
            let got = format!("{from} and then {to} at {index}");
            return Err(Error::shape("offsets", got, "offsets that never fall"));
        }
        Ok(())
    }

    /// All rows, one after the other.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Where each text's rows begin, and at the end how many rows there are.
    pub fn offsets(&self) -> &'a [usize] {
        self.offsets
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The matrix of text `index`, row after row.
    ///
    /// # Panics
    /// If there is no such text.
    pub fn get(&self, index: usize) -> &'a [f32] {
        &self.data[self.offsets[index] * self.dim..self.offsets[index + 1] * self.dim]
    }

    /// The matrices in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let this = *self;
        (0..this.len()).map(move |index| this.get(index))
    }
}
