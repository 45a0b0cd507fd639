//! Rows of a matrix, wherever they stand.

use std::marker::PhantomData;
use std::ops::Range;

/// Rows of `width` numbers, `stride` apart: the columns of a wider matrix, say.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(crate) count: usize,
    pub(crate) width: usize,
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// If the rows overlap or do not lie inside of `data`.
    pub(crate) fn new(data: &'a [f32], count: usize, width: usize, stride: usize) -> Self {
        let fits = count * width == 0 || (count - 1) * stride + width <= data.len();
        assert!(fits && stride >= width, "rows reach beyond their memory");
        Self { data, count, width, stride }
    }

    /// `width` columns from `column` on of `count` rows from `row` on.
    ///
    /// # Panics
    /// If they are not there.
    pub(crate) fn part(&self, row: usize, count: usize, column: usize, width: usize) -> Self {
        assert!(row + count <= self.count && column + width <= self.width, "a part reaches beyond its rows");
        let start = if count * width == 0 { 0 } else { row * self.stride + column };
        Self::new(&self.data[start..], count, width, self.stride)
    }

    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.width]
    }
}

/// Rows of `width` numbers, one after the other, of which several threads write columns of their own.
#[derive(Clone, Copy)]
pub(crate) struct RowsMut<'a> {
    data: *mut f32,
    len: usize,
    width: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a mutable borrow of numbers; whoever reaches them through it vouches for the others.
unsafe impl Send for RowsMut<'_> {}
// SAFETY: the same.
unsafe impl Sync for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    pub(crate) fn new(data: &'a mut [f32], width: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), width, borrowed: PhantomData }
    }

    /// # Safety
    /// Nobody else uses these columns of this row as long as the result lives.
    ///
    /// # Panics
    /// If they are not there.
    pub(super) unsafe fn columns(self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        let start = row * self.width + columns.start;
        assert!(
            columns.start <= columns.end && columns.end <= self.width && (row + 1) * self.width <= self.len,
            "columns reach beyond their row"
        );
        // SAFETY: they lie inside of the borrowed numbers, and are nobody else's by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), columns.len()) }
    }
}
