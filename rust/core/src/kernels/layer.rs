//! Linear layers: weights packed once, and what follows a product done to it before it leaves the cache.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::block::{Block, MOST_ROWS, Multiplier, PANEL};
use super::curves::{Activation, Curve, number, with_curve};
use super::lanes::{Kernel, Lanes};
use super::product::Product;
use super::sums::{self, Bfloats, Singles, Whole};
use super::words::{Precision, Weights, Words};
use super::{Rows, Simd};

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
        let work = Work { layer: self, x, residual, out: out.as_mut_ptr() };
        // SAFETY: the assertion, what `Rows` promises and the capacity are what the kernel asks for, and it writes every
        // number of the result.
        unsafe {
            match self.product {
                Product::Common(simd, _) => simd.run(work),
                #[cfg(target_arch = "x86_64")]
                Product::BfloatTiles => bfloat_tiles(&work),
                #[cfg(target_arch = "x86_64")]
                Product::WholeTiles => whole_tiles(&work),
                #[cfg(target_arch = "x86_64")]
                Product::Bfloats512 => bfloats512(&work),
                #[cfg(target_arch = "x86_64")]
                Product::Whole512 => whole512(&work),
                #[cfg(target_arch = "x86_64")]
                Product::Whole256 => whole256(&work),
            }
            out.set_len(x.count * self.outputs);
        }
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
unsafe fn bfloat_tiles(work: &Work) {
    // SAFETY: the caller's promise, and a product of tiles is only chosen where they are permitted.
    unsafe {
        let _tiles = amx::Tiles::configure();
        work.multiply::<__m512, amx::Bfloats>(&Words::bfloats(work.x, amx::TILE))
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn whole_tiles(work: &Work) {
    // SAFETY: as above.
    unsafe {
        let _tiles = amx::Tiles::configure();
        work.multiply::<__m512, amx::Whole>(&Words::whole::<__m512>(work.x, amx::TILE))
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bfloats512(work: &Work) {
    // SAFETY: the caller's promise.
    unsafe { work.multiply::<__m512, sums::x86::Bfloats512>(&Words::bfloats(work.x, 1)) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn whole512(work: &Work) {
    // SAFETY: the caller's promise.
    unsafe { work.multiply::<__m512, sums::x86::Whole512>(&Words::whole::<__m512>(work.x, 1)) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn whole256(work: &Work) {
    // SAFETY: the caller's promise.
    unsafe { work.multiply::<__m256, sums::x86::Whole256>(&Words::whole::<__m256>(work.x, 1)) }
}

/// One call of [`Layer::apply`], whose sizes were checked.
struct Work<'a> {
    layer: &'a Layer,
    x: Rows<'a>,
    residual: Option<Rows<'a>>,
    /// Room for the result.
    out: *mut f32,
}

/// The products of a block, in cache lines.
#[repr(align(64))]
struct Products([f32; MOST_ROWS * PANEL]);

/// Words of the rows that are multiplied with all panels before the next rows: they stay in a core's second cache.
const GROUP: usize = 1 << 16;

impl Kernel for Work<'_> {
    /// # Safety
    /// The sizes are those that [`Layer::apply`] asserts.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let precision = match self.layer.product {
            Product::Common(_, precision) => precision,
            // These have functions of their own.
            #[cfg(target_arch = "x86_64")]
            Product::BfloatTiles
            | Product::WholeTiles
            | Product::Bfloats512
            | Product::Whole512
            | Product::Whole256 => return,
        };
        // SAFETY: the caller's promise.
        unsafe {
            match precision {
                Precision::Float32 => self.multiply_in_place::<V>(),
                Precision::BFloat16 => self.multiply::<V, Bfloats<V>>(&Words::widened_bfloats(self.x)),
                Precision::Int8 => self.multiply::<V, Whole>(&Words::whole::<V>(self.x, 1)),
            }
        }
    }
}

impl Work<'_> {
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn multiply_in_place<V: Lanes>(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.walk::<V, Singles<V>>(self.x.data.as_ptr().cast(), self.x.stride, &[]) }
    }

    /// # Safety
    /// As [`Kernel::run`]; the instructions of `M` exist, and the words are what they multiply.
    #[inline(always)]
    unsafe fn multiply<V: Lanes, M: Multiplier>(&self, words: &Words) {
        assert!(
            words.rows().len() == self.x.count.next_multiple_of(M::ROUND) * words.stride
                && words.stride == self.layer.steps * M::STEP
                && self.layer.steps.is_multiple_of(M::ROUND),
            "the words of rows do not fit the weights"
        );
        // SAFETY: the caller's promise.
        unsafe { self.walk::<V, M>(words.rows().as_ptr(), words.stride, &words.scales) }
    }

    /// # Safety
    /// As [`Kernel::run`]; the instructions of `M` exist, and with the number of rows rounded up to a multiple of
    /// `M::ROUND`, which `steps` is, rows of `steps` groups can be read, `stride` apart.
    #[inline(always)]
    unsafe fn walk<V: Lanes, M: Multiplier>(&self, rows: *const u32, stride: usize, scales: &[(f32, f32)]) {
        let (most, count, depth) = (M::ROWS, self.x.count, self.layer.steps);
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
            for column in (0..self.layer.outputs).step_by(PANEL) {
                for index in 0..blocks {
                    let (row, next) = (boundary(index), boundary(index + 1));
                    // SAFETY: the rows lie below `count` and the panel inside the panels; there is room for
                    // `MOST_ROWS` rows of products.
                    unsafe {
                        let panel = panels.add(column * depth);
                        let block = Block {
                            rows: rows.add(row * stride),
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
                        if let Some(scales) = scales.get(row..next) {
                            self.unquantize::<V>(products, scales, column);
                        }
                        self.finish::<V>(products, row..next, column);
                    }
                }
            }
        }
    }

    /// Sums of whole numbers -> the numbers that they stand for.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the column exists.
    #[inline(always)]
    unsafe fn unquantize<V: Lanes>(&self, products: &mut [f32], scales: &[(f32, f32)], column: usize) {
        for (products, (scale, zero)) in products.as_chunks_mut::<PANEL>().0.iter_mut().zip(scales) {
            // SAFETY: every place is a whole register, of the products and of what each column has.
            unsafe {
                let (scale, less) = (number::<V>(*scale), number::<V>(-zero));
                for place in (0..PANEL).step_by(V::WIDTH) {
                    let at = products.as_mut_ptr().add(place);
                    let total = V::load(self.layer.totals.as_ptr().add(column + place));
                    let worth = V::load(self.layer.scales.as_ptr().add(column + place)).mul(scale);
                    V::load(at).whole().add_product(less, total).mul(worth).store(at);
                }
            }
        }
    }

    /// Bias, activation and residual.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the rows and columns exist.
    #[inline(always)]
    unsafe fn finish<V: Lanes>(&self, products: &[f32], rows: std::ops::Range<usize>, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            with_curve!(self.layer.activation, |curve| self.finish_with::<V>(products, rows, column, curve))
        }
    }

    #[inline(always)]
    unsafe fn finish_with<V: Lanes>(
        &self,
        products: &[f32],
        rows: std::ops::Range<usize>,
        column: usize,
        curve: impl Curve,
    ) {
        let columns = PANEL.min(self.layer.outputs - column);
        for (row, products) in rows.zip(products.as_chunks::<PANEL>().0) {
            // SAFETY: `PANEL` products and biases can be read, and `columns` numbers of the residual and of the result,
            // where only so many are touched.
            unsafe {
                let out = self.out.add(row * self.layer.outputs + column);
                let residual = self.residual.map(|r| r.data.as_ptr().add(row * r.stride + column));
                let mut values = [0.0; PANEL];
                for place in (0..PANEL).step_by(V::WIDTH) {
                    let bias = V::load(self.layer.bias.as_ptr().add(column + place));
                    let mut value = curve.at(V::load(products.as_ptr().add(place)).add(bias));
                    if columns < PANEL {
                        value.store(values.as_mut_ptr().add(place));
                        continue;
                    }
                    if let Some(residual) = residual {
                        value = value.add(V::load(residual.add(place)));
                    }
                    value.store(out.add(place));
                }
                if columns < PANEL {
                    for (place, value) in values[..columns].iter().enumerate() {
                        *out.add(place) = value + residual.map_or(0.0, |residual| *residual.add(place));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
