//! Attention inside every text of a ragged batch.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{composed, fused, rows, simd, timed};
use crate::batch::Batch;
use crate::kernels::{self, RowsMut};
use crate::team;

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
        let (simd, each) = (simd()?, query / key_value);
        let mut out = vec![0.0; q.count * q.width];
        let results = RowsMut::new(&mut out, q.width);
        team::share(key_value, |heads| {
            let mut head = kernels::Attention::new(simd);
            for (start, rows, attended) in self.batch.texts().filter(|(_, rows, _)| *rows > 0) {
                let visible = |row| self.mask.visible(row, attended);
                for shared in heads.clone() {
                    let column = shared * size;
                    head.load(k.part(start, attended, column, size), v.part(start, attended, column, size));
                    for column in (shared * each..(shared + 1) * each).map(|head| head * size) {
                        let queries = q.part(start, rows, column, size);
                        // SAFETY: every head has columns of its own, and is computed by one thread.
                        unsafe { head.attend(queries, &visible, results, (start, column)) }
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_shows_what_it_says() {
        assert_eq!(Mask::Bidirectional.visible(7, 5), 0..5);
        assert_eq!(Mask::Causal.visible(0, 5), 0..1);
        assert_eq!(Mask::Causal.visible(7, 5), 0..5);
        assert_eq!(Mask::Window(2).visible(0, 5), 0..3);
        assert_eq!(Mask::Window(2).visible(6, 5), 4..5);
        assert!(Mask::Window(2).visible(7, 5).is_empty());
    }
}
