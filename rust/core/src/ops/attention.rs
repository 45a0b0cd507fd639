//! Attention inside every text of a ragged batch.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use multiversion::multiversion;

use super::lanes::fold_lanes;
use super::{Matrix, composed, fused, matmul, rows, timed};
use crate::batch::Batch;
use crate::kernels::Rows;

/// Which tokens of its own text a token may see, besides that nobody sees those behind the text's first `attended`:
/// the mask tokens of an expanded query get rows of their own and are seen by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    Bidirectional,
    /// Those at most so many positions away, on both sides.
    Window(usize),
    /// Itself and those before it.
    Causal,
}

impl Mask {
    /// The tokens that the token at `row` sees, which neither begin nor end earlier for a later row (blocks of rows rely
    /// on it), of a text with `attended` tokens to be seen; it may be none.
    pub(super) fn visible(self, row: usize, attended: usize) -> Range<usize> {
        let (start, end) = match self {
            Self::Bidirectional => (0, attended),
            Self::Window(reach) => (row.saturating_sub(reach), attended.min(row.saturating_add(reach + 1))),
            Self::Causal => (0, attended.min(row + 1)),
        };
        start.min(end)..end
    }
}

/// How the columns of queries, keys and values are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Heads of the queries.
    pub query: usize,
    /// Heads of keys and values, each for as many heads of the queries as it divides among.
    pub key_value: usize,
    /// Columns of a head.
    pub size: usize,
}

impl Heads {
    /// As many heads for keys and values as for queries.
    pub fn equal(count: usize, size: usize) -> Self {
        Self { query: count, key_value: count, size }
    }

    /// The columns of the queries, and those of the keys.
    pub fn widths(self) -> (usize, usize) {
        (self.query * self.size, self.key_value * self.size)
    }
}

/// `softmax(q k' / sqrt(head_size)) v`, text by text and head by head; a token that sees nothing gives zeros.
///
/// `q` is `[tokens, query heads * head_size]`, `k` and `v` are `[tokens, key heads * head_size]`, column slices of one
/// tensor included. Nothing is padded.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    mask: Mask,
    batch: &Batch,
) -> Result<Tensor> {
    let flop = || {
        let seen = |(_, rows, attended): (usize, usize, usize)| -> usize {
            (0..rows).map(|row| mask.visible(row, attended).len()).sum()
        };
        4.0 * (heads.query * heads.size * batch.texts().map(seen).sum::<usize>()) as f64
    };
    timed(
        || format!("attention {mask:?}, heads of {}", heads.size),
        flop,
        || {
            if fused(q) {
                q.apply_op3_no_bwd(k, v, &Attention { heads, mask, batch })
            } else {
                composed::attention(q, k, v, heads, mask, batch)
            }
        },
    )
}

struct Attention<'a> {
    heads: Heads,
    mask: Mask,
    batch: &'a Batch,
}

/// Rows that are multiplied at once: enough to fill the product, few enough that the weights of a long text stay
/// small and a window skips most of it.
const BLOCK: usize = 256;

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (rows(q, q_layout)?, rows(k, k_layout)?, rows(v, v_layout)?);
        let Heads { query, key_value, size } = self.heads;
        let sizes = [q.count, k.count, v.count];
        if query == 0
            || key_value == 0
            || query % key_value != 0
            || sizes != [self.batch.ids().len(); 3]
            || [q.width, k.width, v.width] != [query * size, key_value * size, key_value * size]
        {
            candle_core::bail!("attention of {:?}: got {sizes:?} rows of {}", self.heads, q.width)
        }
        let scale = 1.0 / (size as f32).sqrt();
        let mut out = vec![0.0; q.count * q.width];
        let mut weights = Vec::new();
        for (start, rows, attended) in self.batch.texts() {
            for first in (0..rows).step_by(BLOCK) {
                let block = first..rows.min(first + BLOCK);
                let seen =
                    self.mask.visible(first, attended).start..self.mask.visible(block.end - 1, attended).end;
                if seen.is_empty() {
                    continue;
                }
                weights.resize(block.len() * seen.len(), 0.0);
                for head in 0..query {
                    let part = |x: &Rows<'_>, row, head| x.stride * (start + row) + head * size;
                    let shared = head / (query / key_value);
                    let queries = Matrix::rows(&q.data[part(&q, first, head)..], q.stride);
                    let keys = Matrix::rows(&k.data[part(&k, seen.start, shared)..], k.stride);
                    let values = Matrix::rows(&v.data[part(&v, seen.start, shared)..], v.stride);
                    let sizes = (block.len(), size, seen.len());
                    matmul(sizes, queries, keys.transposed(), (&mut weights, seen.len()), scale);
                    for (row, weights) in block.clone().zip(weights.chunks_exact_mut(seen.len())) {
                        let visible = self.mask.visible(row, attended);
                        let (before, after) = (visible.start - seen.start, visible.end - seen.start);
                        weights[..before].fill(0.0);
                        weights[after..].fill(0.0);
                        softmax(&mut weights[before..after]);
                    }
                    let out = (&mut out[(start + first) * q.width + head * size..], q.width);
                    let sizes = (block.len(), seen.len(), size);
                    matmul(sizes, Matrix::rows(&weights, seen.len()), values, out, 1.0);
                }
            }
        }
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn softmax(row: &mut [f32]) {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let max = fold_lanes(row, f32::NEG_INFINITY, larger, larger);
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let scale = 1.0 / fold_lanes(row, 0.0, |sum, x| sum + x, |a, b| a + b);
    for x in row {
        *x *= scale;
    }
}

/// `e^x` for `x <= 0`: `2^n` by its exponent bits, times a polynomial of `e^r` with `|r| <= ln 2 / 2` (the
/// coefficients of Cephes' `expf`), within 2e-7 of the true value, relatively. Below -87 it is about 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to a whole number without a branch and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would turn a NaN of damaged weights into a number.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e_r = p * r * r + r + 1.0;
    // n lies in [-126, 0], so these are the exponent bits of a normal number.
    let two_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    e_r * two_n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_its_bound_everywhere() {
        let worst = (0..=870_000)
            .map(|i| -(i as f32) * 1e-4)
            .map(|x| (f64::from(exp(x)) / libm::exp(f64::from(x)) - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst}");
        assert!(exp(-1e9) < 1e-37);
    }

    #[test]
    fn a_mask_shows_what_it_says() {
        assert_eq!(Mask::Bidirectional.visible(7, 5), 0..5);
        assert_eq!(Mask::Causal.visible(0, 5), 0..1);
        assert_eq!(Mask::Causal.visible(7, 5), 0..5);
        assert_eq!(Mask::Window(2).visible(0, 5), 0..3);
        assert_eq!(Mask::Window(2).visible(6, 5), 4..5);
        assert!(Mask::Window(2).visible(7, 5).is_empty());
    }

    #[test]
    fn softmax_of_odd_sizes_sums_to_one() {
        softmax(&mut []);
        for size in [1, 2, 15, 16, 17, 33] {
            let mut row: Vec<f32> = (0..size).map(|i| (i as f32 * 0.7).sin() * 30.0).collect();
            softmax(&mut row);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
