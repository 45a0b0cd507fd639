//! Rows of a matrix, wherever they stand.

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
