//! Linear layers: weights packed once, and what follows a product done to it before it leaves the cache.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::block::{Block, MOST_ROWS, Multiplier, PANEL};
use super::curves::{Activation, Curve, number, with_curve};
use super::lanes::{Kernel, Lanes};
use super::product::Product;
#[cfg(target_arch = "x86_64")]
use super::sums::x86;
use super::sums::{Bfloats, Singles};
use super::words::{Precision, Weights, Words};
use super::{Rows, Simd};
use crate::team;

/// A cache line of a panel: the words of half a row of it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; PANEL / 2]);

/// `act(x W' + b)`, with the weights as words in panels of [`PANEL`] columns: `[steps, PANEL]`, one panel after the other,
/// the last filled up with zeros.
pub(crate) struct Layer {
    product: Product,
    panels: Vec<Line>,
    /// These three are as long as all panels are wide.
    bias: Vec<f32>,
    /// For whole numbers what 1 is worth, and what the weights of an output add up to.
    scales: Vec<f32>,
    totals: Vec<f32>,
    inputs: usize,
    outputs: usize,
    /// Rows of a panel.
    steps: usize,
    activation: Activation,
}

impl Layer {
    /// More inputs than whole numbers could be added up of.
    pub(crate) const MOST_INPUTS: usize = 1 << 16;

    /// How many lines the panels take.
    pub(crate) fn lines(simd: Simd, precision: Precision, inputs: usize, outputs: usize) -> usize {
        outputs.div_ceil(PANEL) * steps(Product::choose(simd, precision), precision, inputs) * 2
    }

    /// Packs one row of weights an output, all of the same length, into an empty vector.
    ///
    /// # Panics
    /// If the rows differ in length or are longer than [`Self::MOST_INPUTS`], or are not as many as the values of the bias.
    pub(crate) fn pack(
        simd: Simd,
        precision: Precision,
        rows: &[&[f32]],
        bias: Option<&[f32]>,
        activation: Activation,
        mut panels: Vec<Line>,
    ) -> Self {
        let inputs = rows.first().map_or(0, |row| row.len());
        assert!(
            rows.iter().all(|row| row.len() == inputs) && inputs <= Self::MOST_INPUTS,
            "rows of weights differ in length, or are too long"
        );
        let filled = || vec![0.0; rows.len().next_multiple_of(PANEL)];
        let (mut all_bias, mut scales, mut totals) = (filled(), filled(), filled());
        if let Some(bias) = bias {
            all_bias[..rows.len()].copy_from_slice(bias);
        }
        let product = Product::choose(simd, precision);
        let steps = steps(product, precision, inputs);
        for (index, rows) in rows.chunks(PANEL).enumerate() {
            let weights: Vec<_> = rows.iter().map(|row| Weights::new(simd, precision, row, steps)).collect();
            for (column, weights) in weights.iter().enumerate() {
                scales[index * PANEL + column] = weights.scale;
                totals[index * PANEL + column] = weights.total;
            }
            append_panel(&weights, steps, &mut panels);
        }
        let outputs = rows.len();
        Self { product, panels, bias: all_bias, scales, totals, inputs, outputs, steps, activation }
    }

    /// The length of a row that goes in.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The length of a row that comes out.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[rows, outputs]`, `residual` of the same size added after the activation. A row comes out the same in any company.
    ///
    /// # Panics
    /// If the sizes do not fit together.
    pub(crate) fn apply(&self, x: Rows, residual: Option<Rows>) -> Vec<f32> {
        assert!(
            x.width == self.inputs
                && residual.is_none_or(|r| (r.count, r.width) == (x.count, self.outputs))
                && self.panels.len() == self.outputs.div_ceil(PANEL) * self.steps * 2
                && [&self.bias, &self.scales, &self.totals]
                    .iter()
                    .all(|values| values.len() == self.outputs.next_multiple_of(PANEL)),
            "the operands of a linear layer do not fit together"
        );
        // Zeros would be written once more, which for wide results takes a twentieth of the time.
        let mut out = Vec::with_capacity(x.count * self.outputs);
        let words = Words::new(self.product, x);
        let work = Work { layer: self, words, count: x.count, residual, out: Room(out.as_mut_ptr()) };
        // SAFETY: the assertion, what `Rows` promises and the capacity are what `run` asks for, and no panel is in two ranges.
        team::share(self.outputs.div_ceil(PANEL), |panels| unsafe { work.run(panels) });
        // SAFETY: every panel was computed, and so every number of the result written.
        unsafe { out.set_len(x.count * self.outputs) }
        out
    }
}

/// Rows of a panel.
fn steps(product: Product, precision: Precision, inputs: usize) -> usize {
    inputs.div_ceil(precision.group()).next_multiple_of(product.round())
}

/// Appends outputs as columns, by way of a block that stays in the cache, so that neither side is read or written in
/// single words.
fn append_panel(outputs: &[Weights], steps: usize, panels: &mut Vec<Line>) {
    const STEP: usize = 16;
    let mut block = [[0; PANEL]; STEP];
    for start in (0..steps).step_by(STEP) {
        let steps = STEP.min(steps - start);
        for (column, weights) in outputs.iter().enumerate() {
            let row = &weights.words;
            block.iter_mut().zip(&row[start..start + steps]).for_each(|(line, word)| line[column] = *word);
        }
        let lines = block[..steps].iter().flat_map(|line| line.as_chunks().0);
        panels.extend(lines.map(|half| Line(*half)));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn bfloat_tiles(work: &Work, panels: Range<usize>) {
    // SAFETY: the caller's promise, and a product of tiles is only chosen where they are permitted.
    unsafe {
        let _tiles = amx::Tiles::configure();
        work.walk::<__m512, amx::Bfloats>(panels)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn whole_tiles(work: &Work, panels: Range<usize>) {
    // SAFETY: as above.
    unsafe {
        let _tiles = amx::Tiles::configure();
        work.walk::<__m512, amx::Whole>(panels)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bfloats512(work: &Work, panels: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { work.walk::<__m512, x86::Bfloats512>(panels) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn whole512(work: &Work, panels: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { work.walk::<__m512, x86::Whole512>(panels) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn whole256(work: &Work, panels: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { work.walk::<__m256, x86::Whole256>(panels) }
}

/// One call of [`Layer::apply`], whose sizes were checked.
struct Work<'a> {
    layer: &'a Layer,
    words: Words<'a>,
    count: usize,
    residual: Option<Rows<'a>>,
    out: Room,
}

/// Room for a result, of which every thread writes a part of its own.
struct Room(*mut f32);

// SAFETY: nobody reads it, and to write to it is unsafe.
unsafe impl Sync for Room {}

/// The products of a block, in cache lines.
#[repr(align(64))]
struct Products([f32; MOST_ROWS * PANEL]);

/// Words of the rows that are multiplied with all panels before the next rows: they stay in a core's second cache.
const GROUP: usize = 1 << 16;

/// Some panels of a call.
struct Part<'a>(&'a Work<'a>, Precision, Range<usize>);

impl Kernel for Part<'_> {
    /// # Safety
    /// As [`Work::run`].
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self(work, precision, panels) = self;
        // SAFETY: the caller's promise.
        unsafe {
            match precision {
                Precision::Float32 => work.walk::<V, Singles<V>>(panels),
                Precision::BFloat16 => work.walk::<V, Bfloats<V>>(panels),
                Precision::Int8 => work.walk::<V, V::Whole>(panels),
            }
        }
    }
}

impl Work<'_> {
    /// Computes the columns of some panels.
    ///
    /// # Safety
    /// The sizes are those that [`Layer::apply`] asserts, and nobody else computes these panels.
    unsafe fn run(&self, panels: Range<usize>) {
        // SAFETY: the caller's promise; a product is chosen only where its instructions are.
        unsafe {
            match self.layer.product {
                Product::Common(simd, precision) => simd.run(Part(self, precision, panels)),
                #[cfg(target_arch = "x86_64")]
                Product::BfloatTiles => bfloat_tiles(self, panels),
                #[cfg(target_arch = "x86_64")]
                Product::WholeTiles => whole_tiles(self, panels),
                #[cfg(target_arch = "x86_64")]
                Product::Bfloats512 => bfloats512(self, panels),
                #[cfg(target_arch = "x86_64")]
                Product::Whole512 => whole512(self, panels),
                #[cfg(target_arch = "x86_64")]
                Product::Whole256 => whole256(self, panels),
            }
        }
    }

    /// # Safety
    /// As [`Self::run`]; the instructions of `M` exist.
    #[inline(always)]
    unsafe fn walk<V: Lanes, M: Multiplier>(&self, columns: Range<usize>) {
        let (words, stride) = (self.words.rows(), self.words.stride);
        let (most, count, depth) = (M::ROWS, self.count, self.layer.steps);
        assert!(
            (count == 0 || (count.next_multiple_of(M::ROUND) - 1) * stride + depth * M::STEP <= words.len())
                && depth.is_multiple_of(M::ROUND)
                && self.words.scales.len() == if M::WHOLE { count } else { 0 },
            "the words of rows do not fit the weights"
        );
        let group = (GROUP / (depth * M::STEP) / most).max(1) * most;
        let panels = self.layer.panels.as_ptr().cast::<u32>();
        let mut products = Products([0.0; MOST_ROWS * PANEL]);
        let products = &mut products.0;
        for begin in (0..count).step_by(group) {
            let end = count.min(begin + group);
            // Blocks of nearly the same size: a last one of a row or two would take as long as a full one.
            let blocks = (end - begin).div_ceil(most);
            let boundary = |index: usize| {
                let row = (end - begin) * index / blocks;
                begin + row.next_multiple_of(M::ROUND).min(end - begin)
            };
            for column in columns.clone().map(|panel| panel * PANEL) {
                for index in 0..blocks {
                    let (row, next) = (boundary(index), boundary(index + 1));
                    // SAFETY: the rows lie below `count` and the panel inside the panels; there is room for
                    // `MOST_ROWS` rows of products.
                    unsafe {
                        let panel = panels.add(column * depth);
                        let block = Block {
                            rows: words.as_ptr().add(row * stride),
                            row_stride: stride,
                            depth,
                            panel,
                            // The first blocks ask for a part each of the next panel.
                            ahead: panel
                                .wrapping_add((PANEL + M::AHEAD * index.min(PANEL / M::AHEAD - 1)) * depth),
                            out: products.as_mut_ptr().cast(),
                            out_stride: PANEL,
                        };
                        M::multiply(block, next - row);
                        self.finish::<V, M>(products, row..next, column);
                    }
                }
            }
        }
    }

    /// Sums -> results: what whole numbers stand for, bias, activation and residual.
    ///
    /// # Safety
    /// As [`Self::run`]; the rows and columns exist.
    #[inline(always)]
    unsafe fn finish<V: Lanes, M: Multiplier>(
        &self,
        products: &mut [f32],
        rows: Range<usize>,
        column: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            with_curve!(self.layer.activation, |curve| {
                self.finish_with::<V, M>(products, rows, column, curve)
            })
        }
    }

    /// A register of columns after the other, so that what belongs to a column is loaded once.
    // As `Block::rows`.
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn finish_with<V: Lanes, M: Multiplier>(
        &self,
        products: &mut [f32],
        rows: Range<usize>,
        column: usize,
        curve: impl Curve,
    ) {
        let Layer { bias, scales, totals, .. } = self.layer;
        let outputs = self.layer.outputs;
        let (products, _) = products.as_chunks_mut::<PANEL>();
        let columns = PANEL.min(outputs - column);
        for place in (0..PANEL).step_by(V::WIDTH) {
            // SAFETY: every place is a whole register, of the products and of what each column has; of the residual and the
            // result, where there are only `columns` numbers, no register is touched that is not whole.
            unsafe {
                let of_columns = |values: &[f32]| V::load(values.as_ptr().add(column + place));
                let (bias, scale, total) = (of_columns(bias), of_columns(scales), of_columns(totals));
                // Pointers that step, since an index would be multiplied and checked for overflow at every register.
                let mut out = self.out.0.wrapping_add(rows.start * outputs + column + place);
                let mut residual = self.residual.map(|r| {
                    (r.data.as_ptr().wrapping_add(rows.start * r.stride + column + place), r.stride)
                });
                for (row, products) in rows.clone().zip(&mut *products) {
                    let at = products.as_mut_ptr().add(place);
                    let mut value = V::load(at);
                    if M::WHOLE {
                        let (one, zero) = self.words.scales[row];
                        let worth = scale.mul(number(one));
                        value = value.whole().add_product(number(-zero), total).mul(worth);
                    }
                    value = curve.at(value.add(bias));
                    if columns < PANEL {
                        value.store(at);
                        continue;
                    }
                    if let Some((at, stride)) = &mut residual {
                        value = value.add(V::load(*at));
                        *at = at.wrapping_add(*stride);
                    }
                    value.store(out);
                    out = out.wrapping_add(outputs);
                }
            }
        }
        if columns == PANEL {
            return;
        }
        for (row, products) in rows.zip(products) {
            for (place, value) in products[..columns].iter().enumerate() {
                let residual = self.residual.map_or(0.0, |r| r.data[row * r.stride + column + place]);
                // SAFETY: the result has so many columns.
                unsafe { *self.out.0.add(row * outputs + column + place) = value + residual }
            }
        }
    }
}

#[cfg(test)]
mod tests;
