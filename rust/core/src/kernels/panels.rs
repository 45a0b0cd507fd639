//! Rows packed for products with many others.

use super::Simd;
use super::tile::{self, Operands, Sink};

/// Rows of a matrix, packed as the columns of products: a query's tokens, say. They are followed by columns of zeros
/// up to the next full register.
pub(crate) struct Panels {
    simd: Simd,
    values: Vec<f32>,
    depth: usize,
    columns: usize,
    stride: usize,
}

impl Panels {
    /// Packs rows of `depth` numbers.
    pub(crate) fn pack(simd: Simd, rows: &[f32], depth: usize) -> Self {
        let mut panels = Self { simd, values: Vec::new(), depth, columns: 0, stride: 0 };
        panels.repack(rows);
        panels
    }

    /// The same for other rows, in the same memory.
    pub(crate) fn repack(&mut self, rows: &[f32]) {
        let (width, depth) = (tile::width(self.simd), self.depth);
        self.columns = rows.len() / depth;
        self.stride = self.columns.next_multiple_of(width);
        self.values.clear();
        self.values.resize(self.stride * depth, 0.0);
        for (column, row) in rows.chunks_exact(depth).enumerate() {
            let first = column / (2 * width) * (2 * width);
            let panel_width = (self.stride - first).min(2 * width);
            let panel = &mut self.values[first * depth + column - first..];
            panel.iter_mut().step_by(panel_width).zip(row).for_each(|(place, x)| *place = *x);
        }
    }

    /// The number of columns that were packed.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The number of columns with those of zeros: the length of a row of products.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The products of rows with all columns, `[rows, stride]`: each a sum in the order of the depth. False if one is
    /// not finite.
    pub(crate) fn products(&self, rows: &[f32], out: &mut [f32]) -> bool {
        tile::multiply(self.simd, self.operands(rows), Sink::Store(out))
    }

    /// `[stride]`: makes each column's `best` the largest of itself and of the column's products with the rows. False
    /// if one is not finite, and with any row that is not finite; `best` is of no use then.
    pub(crate) fn maxima(&self, rows: &[f32], best: &mut [f32]) -> bool {
        tile::multiply(self.simd, self.operands(rows), Sink::Maxima(best))
    }

    fn operands<'a>(&'a self, rows: &'a [f32]) -> Operands<'a> {
        Operands { rows, panels: &self.values, depth: self.depth, stride: self.stride }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    /// Sums in the order of the depth, with one rounding a step or with two.
    fn dot(x: &[f32], y: &[f32], fused: bool) -> f32 {
        let step = |sum: f32, (x, y): (&f32, &f32)| if fused { x.mul_add(*y, sum) } else { sum + x * y };
        x.iter().zip(y).fold(0.0, step)
    }

    #[test]
    fn every_path_gives_the_bits_of_the_plain_loop_at_every_size() {
        for simd in Simd::available() {
            let fused = !["portable", "simd128"].contains(&simd.name());
            for (rows, columns, depth) in (0..30).flat_map(|rows| {
                [0, 1, 3, 4, 7, 8, 9, 16, 17, 31, 32, 33, 65].map(|c| (rows, c, 1 + (rows * 7 + c) % 37))
            }) {
                let (x, y) = (numbers(7, rows * depth), numbers(99, columns * depth));
                let panels = Panels::pack(simd, &y, depth);
                assert_eq!(panels.columns(), columns);
                let mut products = vec![f32::NAN; rows * panels.stride()];
                let mut best = vec![f32::NEG_INFINITY; panels.stride()];
                assert!(panels.products(&x, &mut products) && panels.maxima(&x, &mut best));
                for (column, y) in y.chunks_exact(depth).enumerate() {
                    let want: Vec<f32> = x.chunks_exact(depth).map(|x| dot(x, y, fused)).collect();
                    let got: Vec<f32> =
                        products.iter().skip(column).step_by(panels.stride()).copied().collect();
                    assert_eq!(got, want, "{} {rows} x {depth} x {columns}, column {column}", simd.name());
                    assert_eq!(best[column], want.into_iter().fold(f32::NEG_INFINITY, f32::max));
                }
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_noticed_wherever_it_stands() {
        for (simd, value) in Simd::available()
            .into_iter()
            .flat_map(|simd| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|x| (simd, x)))
        {
            for (rows, depth) in [(1, 1), (1, 5), (3, 2), (13, 3), (29, 4)] {
                let panels = Panels::pack(simd, &vec![0.0; 3 * depth], depth);
                let mut best = vec![0.0; panels.stride()];
                for place in 0..rows * depth {
                    let mut x = numbers(3, rows * depth);
                    assert!(panels.maxima(&x, &mut best));
                    x[place] = value;
                    assert!(!panels.maxima(&x, &mut best), "{} {value} at {place}", simd.name());
                }
            }
        }
    }

    #[test]
    fn a_product_that_overflows_is_noticed_in_every_column() {
        for (simd, column) in Simd::available().into_iter().flat_map(|simd| (0..40).map(move |c| (simd, c))) {
            let mut columns = vec![1.0; 40];
            columns[column] = f32::MAX;
            let panels = Panels::pack(simd, &columns, 1);
            for rows in [1, 3, 4, 12, 13] {
                let mut best = vec![0.0; panels.stride()];
                assert!(panels.maxima(&vec![0.5; rows], &mut best));
                assert!(!panels.maxima(&vec![2.0; rows], &mut best), "{} column {column}", simd.name());
            }
        }
    }

    #[test]
    fn memory_can_be_packed_again() {
        let simd = Simd::available()[0];
        let (small, large) = (numbers(1, 3 * 6), numbers(2, 40 * 6));
        let mut panels = Panels::pack(simd, &large, 6);
        panels.repack(&small);
        assert_eq!((panels.columns(), &panels.values), (3, &Panels::pack(simd, &small, 6).values));
    }
}
