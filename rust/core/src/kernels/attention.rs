//! Attention of one head inside one text.

use std::ops::Range;

use super::block::{Block, PANEL, REGISTER_ROWS};
use super::curves::{exp2, number};
use super::lanes::{Kernel, Lanes, joined};
use super::sums::Singles;
use super::{Rows, RowsMut, Simd};

/// Keys and values of one head of one text, packed for the queries of all its tokens.
pub(crate) struct Attention {
    simd: Simd,
    tokens: usize,
    size: usize,
    /// Panels of [`PANEL`] tokens, `[size, PANEL]` each, the last filled up with zeros.
    keys: Vec<f32>,
    /// Panels of [`PANEL`] columns, `[tokens, PANEL]` each, the last filled up with zeros.
    values: Vec<f32>,
    /// The weights of a block of rows.
    weights: Vec<f32>,
}

impl Attention {
    /// Of nothing yet.
    pub(crate) fn new(simd: Simd) -> Self {
        Self { simd, tokens: 0, size: 0, keys: Vec::new(), values: Vec::new(), weights: Vec::new() }
    }

    /// Packs the keys and values of the tokens that are seen, in place of those before.
    ///
    /// # Panics
    /// If they are not of the same size.
    pub(crate) fn load(&mut self, keys: Rows, values: Rows) {
        assert!((keys.count, keys.width) == (values.count, values.width), "keys and values differ in size");
        (self.tokens, self.size) = (keys.count, keys.width);
        // SAFETY: the kernel asks for nothing but the instructions.
        unsafe { self.simd.run(Pack { head: self, keys, values }) }
    }

    /// Writes `softmax(q k' / sqrt(size)) v` for every query to `out`, from a row and a column on. `visible` says which
    /// tokens a query sees, a range that neither begins nor ends earlier for a later query; with none to see, it gives
    /// zeros.
    ///
    /// # Safety
    /// Nobody else uses these columns of these rows meanwhile.
    ///
    /// # Panics
    /// If a query is not of the size of the keys, sees a token that is not there, or has no room in `out`.
    pub(crate) unsafe fn attend(
        &mut self,
        queries: Rows,
        visible: &dyn Fn(usize) -> Range<usize>,
        out: RowsMut,
        (row, column): (usize, usize),
    ) {
        if queries.count == 0 {
            return;
        }
        assert!(
            queries.width == self.size
                && self.keys.len() == self.tokens.next_multiple_of(PANEL) * self.size
                && self.values.len() == self.tokens * self.size.next_multiple_of(PANEL),
            "the operands of attention do not fit together"
        );
        self.weights.resize(REGISTER_ROWS * self.tokens.next_multiple_of(PANEL), 0.0);
        let simd = self.simd;
        // SAFETY: the assertion, what `Rows` and the caller promise and the size of `weights` are what the kernel asks for.
        unsafe { simd.run(Work { head: self, queries, visible, out, row, column }) }
    }
}

/// Keys and values as panels, in widest registers.
struct Pack<'a> {
    head: &'a mut Attention,
    keys: Rows<'a>,
    values: Rows<'a>,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Attention { tokens, size, ref mut keys, ref mut values, .. } = *self.head;
        // What is there of other texts is written over.
        keys.resize(tokens.next_multiple_of(PANEL) * size, 0.0);
        let panels = keys.chunks_exact_mut(PANEL * size.max(1)).zip((0..tokens).step_by(PANEL));
        for (panel, first) in panels {
            let last = tokens.min(first + PANEL);
            if last < first + PANEL {
                panel.fill(0.0);
            }
            let (lines, _) = panel.as_chunks_mut::<PANEL>();
            let whole = first + (last - first) / 4 * 4;
            // Four at a time, or every number would be a store of its own.
            for token in (first..whole).step_by(4) {
                let [a, b, c, d] = [0, 1, 2, 3].map(|next| self.keys.row(token + next));
                for ((((line, a), b), c), d) in lines.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    line[token - first..][..4].copy_from_slice(&[*a, *b, *c, *d]);
                }
            }
            for token in whole..last {
                lines.iter_mut().zip(self.keys.row(token)).for_each(|(line, x)| line[token - first] = *x);
            }
        }
        values.resize(tokens * size.next_multiple_of(PANEL), 0.0);
        let (mut lines, _) = values.as_chunks_mut::<PANEL>();
        for first in (0..size).step_by(PANEL) {
            let (panel, others) = lines.split_at_mut(tokens);
            for (token, line) in panel.iter_mut().enumerate() {
                let row = &self.values.row(token)[first..];
                match row.first_chunk() {
                    Some(whole) => *line = *whole,
                    None => {
                        line[..row.len()].copy_from_slice(row);
                        line[row.len()..].fill(0.0);
                    }
                }
            }
            lines = others;
        }
    }
}

/// One call of [`Attention::attend`], whose sizes were checked.
struct Work<'a> {
    head: &'a mut Attention,
    queries: Rows<'a>,
    visible: &'a dyn Fn(usize) -> Range<usize>,
    out: RowsMut<'a>,
    /// Where in it the result begins.
    row: usize,
    column: usize,
}

impl Kernel for Work<'_> {
    /// # Safety
    /// The sizes are those that [`Attention::attend`] asserts, and the place in `out` is nobody else's.
    #[inline(always)]
    unsafe fn run<V: Lanes>(mut self) {
        let count = self.queries.count;
        let blocks = count.div_ceil(V::ROWS);
        for index in 0..blocks {
            let rows = count * index / blocks..count * (index + 1) / blocks;
            // SAFETY: the caller's promise; a block has at most `V::ROWS` rows.
            unsafe { self.block::<V>(rows) }
        }
    }
}

impl Work<'_> {
    /// # Safety
    /// As [`Kernel::run`]; there are at most `V::ROWS` rows.
    #[inline(always)]
    unsafe fn block<V: Lanes>(&mut self, rows: Range<usize>) {
        let seen = (self.visible)(rows.start).start..(self.visible)(rows.end - 1).end;
        assert!(seen.end <= self.head.tokens, "a query sees a token that is not there");
        let Attention { tokens, size, ref keys, ref values, ref mut weights, .. } = *self.head;
        let first = seen.start / PANEL * PANEL;
        let width = seen.end.next_multiple_of(PANEL) - first;
        let mut shares = [0.0; REGISTER_ROWS];
        // SAFETY: panels from `first` on hold `width` keys, since the tokens are at least `seen.end`; so many weights of
        // every row fit, and of values there is a row for every token that is seen.
        unsafe {
            for column in (0..width).step_by(PANEL) {
                let panel = keys.as_ptr().add((first + column) * size).cast();
                let block = Block {
                    rows: self.queries.data.as_ptr().add(rows.start * self.queries.stride).cast(),
                    row_stride: self.queries.stride,
                    depth: size,
                    panel,
                    ahead: panel.wrapping_add(PANEL * size),
                    out: weights.as_mut_ptr().add(column).cast(),
                    out_stride: width,
                };
                block.run::<Singles<V>>(rows.len());
            }
            let visible = |row| {
                let visible = (self.visible)(row);
                visible.start - first.min(visible.start)..visible.end - first.min(visible.end)
            };
            // The largest of all rows first: else the weights of every row would wait for its own.
            let mut most = [0.0; REGISTER_ROWS];
            for (index, most) in most[..rows.len()].iter_mut().enumerate() {
                let scores = &mut weights[index * width..][..width];
                hide::<V>(scores, visible(rows.start + index));
                *most = largest::<V>(scores);
            }
            let scale = 1.0 / (size as f32).sqrt() * std::f32::consts::LOG2_E;
            for (index, (most, share)) in most.iter().zip(&mut shares).take(rows.len()).enumerate() {
                let row = &mut weights[index * width..][..width];
                let visible = visible(rows.start + index);
                let sum = weigh::<V>(row, *most, scale);
                *share = if visible.is_empty() { 0.0 } else { 1.0 / sum };
                let row = &mut row[seen.start - first..seen.end - first];
                let begin = (visible.start + first).saturating_sub(seen.start).min(row.len());
                let end = (visible.end + first).saturating_sub(seen.start).clamp(begin, row.len());
                row[..begin].fill(0.0);
                row[end..].fill(0.0);
            }
            let mut products = [0.0f32; REGISTER_ROWS * PANEL];
            for column in (0..size).step_by(PANEL) {
                let panel = values.as_ptr().add(column * tokens + seen.start * PANEL).cast();
                let block = Block {
                    rows: weights.as_ptr().add(seen.start - first).cast(),
                    row_stride: width,
                    depth: seen.len(),
                    panel,
                    ahead: panel,
                    out: products.as_mut_ptr().cast(),
                    out_stride: PANEL,
                };
                block.run::<Singles<V>>(rows.len());
                let columns = PANEL.min(size - column);
                for ((row, products), share) in rows.clone().zip(products.as_chunks::<PANEL>().0).zip(shares)
                {
                    let place = self.column + column;
                    let out = self.out.columns(self.row + row, place..place + columns);
                    out.iter_mut().zip(products).for_each(|(y, sum)| *y = sum * share);
                }
            }
        }
    }
}

/// Infinity where it is to leave a number as it is, and minus infinity behind that.
static EDGE: [f32; 2 * PANEL] = {
    let mut edge = [f32::INFINITY; 2 * PANEL];
    let mut place = PANEL;
    while place < edge.len() {
        edge[place] = f32::NEG_INFINITY;
        place += 1;
    }
    edge
};

/// Makes scores that are not visible minus infinity.
///
/// # Safety
/// The instructions of `V` exist; the row is a multiple of [`PANEL`] long.
#[inline(always)]
unsafe fn hide<V: Lanes>(row: &mut [f32], visible: Range<usize>) {
    let (start, end) = (visible.start, row.len());
    // SAFETY: every place is a whole register of the row, and the edge is long enough to begin anywhere up to its middle.
    unsafe {
        // Infinity up to `edge`, from `place` on.
        let until = |edge: usize, place: usize| {
            V::load(EDGE.as_ptr().add((PANEL + place).saturating_sub(edge).min(PANEL)))
        };
        for place in (0..start).step_by(V::WIDTH) {
            let at = row.as_mut_ptr().add(place);
            V::load(at).min(V::zero().sub(until(start, place))).store(at);
        }
        for place in (visible.end / V::WIDTH * V::WIDTH..end).step_by(V::WIDTH) {
            let at = row.as_mut_ptr().add(place);
            V::load(at).min(until(visible.end, place)).store(at);
        }
    }
}

/// The largest number of a row.
///
/// # Safety
/// As [`hide`].
#[inline(always)]
unsafe fn largest<V: Lanes>(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; PANEL];
    for panel in row.chunks_exact(PANEL) {
        for place in (0..PANEL).step_by(V::WIDTH) {
            let lane = lanes.as_mut_ptr().wrapping_add(place);
            // SAFETY: every place is a whole register of the row and of the lanes.
            unsafe { V::load(lane).max(V::load(panel.as_ptr().add(place))).store(lane) }
        }
    }
    joined(lanes, |x, y| if x > y { x } else { y })
}

/// Makes scores into `2 ^ (scale * (score - largest))` and gives their sum. It is added up in [`PANEL`] lanes whatever the
/// width of a register.
///
/// # Safety
/// As [`hide`].
#[inline(always)]
unsafe fn weigh<V: Lanes>(row: &mut [f32], largest: f32, scale: f32) -> f32 {
    let mut lanes = [0.0; PANEL];
    // SAFETY: every place is a whole register of the row and of the lanes.
    unsafe {
        let (scale, shift) = (number::<V>(scale), number::<V>(-largest * scale));
        for panel in row.chunks_exact_mut(PANEL) {
            for place in (0..PANEL).step_by(V::WIDTH) {
                let (lane, at) = (lanes.as_mut_ptr().add(place), panel.as_mut_ptr().add(place));
                let weight = exp2(shift.add_product(V::load(at), scale));
                weight.store(at);
                V::load(lane).add(weight).store(lane);
            }
        }
    }
    joined(lanes, |x, y| x + y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    /// `[queries, size]`, by definition.
    fn plain(
        q: &[f32],
        k: &[f32],
        v: &[f32],
        size: usize,
        visible: &dyn Fn(usize) -> Range<usize>,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for (index, query) in q.chunks_exact(size).enumerate() {
            let mut row = vec![0.0; size];
            let mut total = 0.0;
            for token in visible(index) {
                let key = &k[token * size..][..size];
                let score: f64 = query.iter().zip(key).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                let weight = (score / (size as f64).sqrt()).exp();
                total += weight;
                row.iter_mut().zip(&v[token * size..]).for_each(|(sum, v)| *sum += weight * f64::from(*v));
            }
            out.extend(row.iter().map(|sum| if total > 0.0 { sum / total } else { 0.0 }));
        }
        out
    }

    #[test]
    fn every_path_is_the_float64_loop_at_every_size() {
        for simd in Simd::available() {
            for (count, size) in (1..=70).map(|n| (n, 1 + n * 23 % 80)) {
                let (q, k, v) =
                    (numbers(1, count * size), numbers(2, count * size), numbers(3, count * size));
                let attended = 1 + count * 7 % count;
                let full = |_: usize| 0..attended;
                let causal = |row: usize| 0..attended.min(row + 1);
                let window = |row: usize| {
                    let end = attended.min(row + 4);
                    row.saturating_sub(3).min(end)..end
                };
                for visible in [&full as &dyn Fn(usize) -> Range<usize>, &causal, &window] {
                    let mut head = Attention::new(simd);
                    // What was loaded before leaves nothing behind.
                    head.load(Rows::new(&k, count / 2, size, size), Rows::new(&v, count / 2, size, size));
                    head.load(Rows::new(&k, attended, size, size), Rows::new(&v, attended, size, size));
                    let stride = size + 3;
                    let mut out = vec![7.0; (count + 1) * stride];
                    // SAFETY: nobody else has the vector.
                    unsafe {
                        let out = RowsMut::new(&mut out, stride);
                        head.attend(Rows::new(&q, count, size, size), visible, out, (1, 2));
                    }
                    let want = plain(&q, &k, &v, size, visible);
                    for (row, want) in want.chunks_exact(size).enumerate() {
                        let whole = &out[(row + 1) * stride..][..stride];
                        let got = &whole[2..2 + size];
                        let worst = got.iter().zip(want).map(|(x, y)| (f64::from(*x) - y).abs());
                        let worst = worst.fold(0.0, f64::max);
                        assert!(worst < 2e-6, "{} {count} x {size}, row {row}: {worst:e}", simd.name());
                        assert_eq!([whole[0], whole[1], whole[stride - 1]], [7.0; 3]);
                    }
                }
            }
        }
    }

    #[test]
    fn large_scores_and_tokens_that_nobody_sees_do_no_harm() {
        for simd in Simd::available() {
            let (q, mut k) = (vec![30.0; 8], vec![30.0; 40 * 8]);
            k[8 * 3..].fill(-30.0);
            let mut v = numbers(4, 40 * 8);
            let run = |k: &[f32], v: &[f32], seen: usize| {
                let mut head = Attention::new(simd);
                head.load(Rows::new(k, 40, 8, 8), Rows::new(v, 40, 8, 8));
                let mut out = vec![f32::NAN; 8];
                // SAFETY: nobody else has the vector.
                unsafe {
                    head.attend(Rows::new(&q, 1, 8, 8), &|_| 0..seen, RowsMut::new(&mut out, 8), (0, 0));
                }
                out
            };
            let mean = |c: usize| (v[c] + v[8 + c] + v[16 + c]) / 3.0;
            let got = run(&k, &v, 40);
            assert!(got.iter().enumerate().all(|(c, x)| (x - mean(c)).abs() < 1e-6), "{got:?}");
            let few = run(&k, &v, 20);
            k[8 * 20..].fill(1e30);
            v[8 * 20..].fill(1e30);
            assert_eq!(run(&k, &v, 20), few);
        }
    }
}
