//! Rows of a matrix, wherever they stand.

/// Rows of `width` numbers, `stride` apart: the columns of a wider matrix, say.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) count: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// If the rows overlap or do not lie inside of `data`.
    pub(crate) fn new(data: &'a [f32], count: usize, width: usize, stride: usize) -> Self {
        let fits = count * width == 0 || (count - 1) * stride + width <= data.len();
        assert!(fits && stride >= width, "rows reach beyond their memory");
        Self { data, count, width, stride }
    }

    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.width]
    }
}
