//! Linear layers: weights packed once, and what follows a product done to it before it leaves the cache.

use super::block::{Block, MOST_ROWS, PANEL};
use super::curves::{Activation, Curve, with_curve};
use super::lanes::{Kernel, Lanes};
use super::{Rows, Simd};

/// A cache line of a panel: half a row of it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; PANEL / 2]);

/// `act(x W' + b)`, with the weights in panels of [`PANEL`] columns: `[inputs, PANEL]`, one panel after the other, the
/// last filled up with zeros.
pub(crate) struct Layer {
    simd: Simd,
    panels: Vec<Line>,
    /// As long as all panels are wide.
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    activation: Activation,
}

impl Layer {
    /// How many lines the panels take.
    pub(crate) fn lines(inputs: usize, outputs: usize) -> usize {
        outputs.div_ceil(PANEL) * inputs * 2
    }

    /// Packs one row of weights an output, all of the same length, into an empty vector.
    ///
    /// # Panics
    /// If the rows differ in length, or are not as many as the values of the bias.
    pub(crate) fn pack(
        simd: Simd,
        rows: &[&[f32]],
        bias: Option<&[f32]>,
        activation: Activation,
        mut panels: Vec<Line>,
    ) -> Self {
        let inputs = rows.first().map_or(0, |row| row.len());
        assert!(rows.iter().all(|row| row.len() == inputs), "rows of weights differ in length");
        let mut filled = vec![0.0; rows.len().next_multiple_of(PANEL)];
        if let Some(bias) = bias {
            filled[..rows.len()].copy_from_slice(bias);
        }
        for rows in rows.chunks(PANEL) {
            append_panel(rows, inputs, &mut panels);
        }
        Self { simd, panels, bias: filled, inputs, outputs: rows.len(), activation }
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
                && self.panels.len() == Self::lines(self.inputs, self.outputs)
                && self.bias.len() == self.outputs.next_multiple_of(PANEL),
            "the operands of a linear layer do not fit together"
        );
        // Zeros would be written once more, which for wide results takes a twentieth of the time.
        let mut out = Vec::with_capacity(x.count * self.outputs);
        let work = Work { layer: self, x, residual, out: out.as_mut_ptr() };
        // SAFETY: the assertion, what `Rows` promises and the capacity are what the kernel asks for, and it writes every
        // number of the result.
        unsafe {
            self.simd.run(work);
            out.set_len(x.count * self.outputs);
        }
        out
    }
}

/// Appends the rows as columns, by way of a block that stays in the cache, so that neither side is read or written in
/// single numbers.
fn append_panel(rows: &[&[f32]], inputs: usize, panels: &mut Vec<Line>) {
    const STEP: usize = 16;
    let mut block = [[0.0; PANEL]; STEP];
    for start in (0..inputs).step_by(STEP) {
        let steps = STEP.min(inputs - start);
        for (column, row) in rows.iter().enumerate() {
            block.iter_mut().zip(&row[start..start + steps]).for_each(|(line, x)| line[column] = *x);
        }
        let lines = block[..steps].iter().flat_map(|line| line.as_chunks().0);
        panels.extend(lines.map(|half| Line(*half)));
    }
}

/// One call of [`Layer::apply`], whose sizes were checked.
struct Work<'a> {
    layer: &'a Layer,
    x: Rows<'a>,
    residual: Option<Rows<'a>>,
    /// Room for the result.
    out: *mut f32,
}

/// Numbers of the rows that are multiplied with all panels before the next rows: they stay in a core's second cache.
const GROUP: usize = 1 << 16;

impl Kernel for Work<'_> {
    /// # Safety
    /// The sizes are those that [`Layer::apply`] asserts.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let (most, count, depth) = (V::ROWS, self.x.count, self.layer.inputs);
        let group = (GROUP / depth / most).max(1) * most;
        let panels = self.layer.panels.as_ptr().cast::<f32>();
        let mut products = [0.0; MOST_ROWS * PANEL];
        for begin in (0..count).step_by(group) {
            let end = count.min(begin + group);
            // Blocks of nearly the same size: a last one of a row or two would take as long as a full one.
            let blocks = (end - begin).div_ceil(most);
            for column in (0..self.layer.outputs).step_by(PANEL) {
                for index in 0..blocks {
                    let row = begin + (end - begin) * index / blocks;
                    let next = begin + (end - begin) * (index + 1) / blocks;
                    // SAFETY: the rows lie below `count` and the panel inside the panels; there is room for
                    // `MOST_ROWS` rows of products.
                    unsafe {
                        let panel = panels.add(column * depth);
                        let block = Block {
                            rows: self.x.data.as_ptr().add(row * self.x.stride),
                            row_stride: self.x.stride,
                            depth,
                            panel,
                            // The first two blocks ask for a half each of the next panel.
                            ahead: panel.wrapping_add((PANEL + PANEL / 2 * index.min(1)) * depth),
                            out: products.as_mut_ptr(),
                            out_stride: PANEL,
                        };
                        block.run::<V>(next - row);
                        self.finish::<V>(&products, row..next, column);
                    }
                }
            }
        }
    }
}

impl Work<'_> {
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
mod tests {
    use super::*;
    use crate::kernels::numbers;

    /// Sums in the order of the depth, in double precision.
    fn dot(x: &[f32], y: &[f32]) -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    #[test]
    fn every_path_is_the_float64_loop_at_every_size() {
        for simd in Simd::available() {
            for (count, inputs, outputs) in (1..=70).map(|n| (n, 1 + n * 13 % 71, 1 + n * 29 % 97)) {
                let (biased, residual) = (count % 3 > 0, count % 2 > 0);
                let weights = numbers(1, outputs * inputs);
                let (bias, added) = (numbers(2, outputs), numbers(3, count * (outputs + 2)));
                // Rows that stand apart, as those of a column slice do.
                let x = numbers(4, count * (inputs + 5));
                let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
                let relu = Activation::Relu;
                let layer = Layer::pack(simd, &rows, biased.then_some(&bias[..]), relu, Vec::new());
                assert_eq!((layer.inputs(), layer.outputs()), (inputs, outputs));
                let got = layer.apply(
                    Rows::new(&x, count, inputs, inputs + 5),
                    residual.then(|| Rows::new(&added, count, outputs, outputs + 2)),
                );
                assert_eq!(got.len(), count * outputs);
                for (place, got) in got.iter().enumerate() {
                    let (row, column) = (place / outputs, place % outputs);
                    let sum = dot(&x[row * (inputs + 5)..][..inputs], rows[column]);
                    let sum = sum + if biased { f64::from(bias[column]) } else { 0.0 };
                    let added = if residual { f64::from(added[row * (outputs + 2) + column]) } else { 0.0 };
                    let want = sum.max(0.0) + added;
                    let difference = (f64::from(*got) - want).abs();
                    assert!(
                        difference < 4e-6,
                        "{} {count} x {inputs} x {outputs}: {got} for {want}",
                        simd.name()
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_comes_out_the_same_in_any_company() {
        let (inputs, outputs) = (131, 70);
        let (weights, x) = (numbers(5, inputs * outputs), numbers(6, 600 * inputs));
        let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
        for simd in Simd::available() {
            let layer = Layer::pack(simd, &rows, None, Activation::Gelu, Vec::new());
            let all = layer.apply(Rows::new(&x, 600, inputs, inputs), None);
            for (start, count) in [(0, 1), (599, 1), (3, 25), (300, 300)] {
                let some = layer.apply(Rows::new(&x[start * inputs..], count, inputs, inputs), None);
                assert_eq!(some, all[start * outputs..][..count * outputs], "{}", simd.name());
            }
        }
    }

    #[test]
    fn instructions_that_add_a_product_in_one_rounding_agree() {
        let (inputs, outputs) = (77, 45);
        let (weights, x) = (numbers(7, inputs * outputs), numbers(8, 20 * inputs));
        let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
        let fused = |simd: &Simd| !["portable", "simd128"].contains(&simd.name());
        let mut results = Simd::available().into_iter().filter(fused).map(|simd| {
            let layer = Layer::pack(simd, &rows, Some(&x[..outputs]), Activation::Silu, Vec::new());
            layer.apply(Rows::new(&x, 20, inputs, inputs), None)
        });
        if let Some(first) = results.next() {
            assert!(results.all(|other| other == first));
        }
    }
}
