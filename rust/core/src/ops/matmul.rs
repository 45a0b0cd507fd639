//! The one door to the matrix product of the `gemm` crate.

/// A float32 matrix inside a slice: element `(i, j)` stands at `start + i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that follow each other `stride` apart.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows * columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// `a [m, k]` times `b [k, n]` times `scale`, into `out`, whose rows of `n` elements stand `out_stride` apart. One thread: callers
/// work on many batches at once instead.
pub(crate) fn matmul(
    (m, k, n): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    (out, out_stride): (&mut [f32], usize),
    scale: f32,
) {
    assert!(
        a.holds(m, k) && b.holds(k, n) && out_stride >= n,
        "a matrix product reaches beyond its operands"
    );
    assert!(
        m * n == 0 || (m - 1) * out_stride + n <= out.len(),
        "a matrix product reaches beyond its result"
    );
    // SAFETY: the assertions above keep every element that gemm reads or writes inside the three slices, and `out`
    // is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            false,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
