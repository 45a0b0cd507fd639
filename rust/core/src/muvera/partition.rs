//! Which cluster a row falls into: one bit for the side of each of `ksim` random hyperplanes (SimHash).
//!
//! The sides are those that float64 finds, at the price of float32: a product is computed in float32 first, and once
//! more in float64 where rounding could have turned its sign. So they do not depend on how the fast products are summed.

use multiversion::multiversion;

use super::pcg64::Pcg64;
use super::ziggurat::Normal;
use crate::error::Result;
use crate::kernels::{Panels, Simd};
use crate::queue::GoOn;

/// Rows whose products are held at a time.
const BLOCK: usize = 64;

/// The hyperplanes of all repetitions.
pub(super) struct Partition {
    dim: usize,
    ksim: usize,
    repetitions: usize,
    /// Normal vectors `[repetitions * ksim, dim]`.
    planes: Vec<f64>,
    /// The same in float32.
    panels: Panels,
    /// How large a product with a row of length 1 may be in float32 by rounding alone.
    doubt: f64,
}

impl Partition {
    /// Draws the hyperplanes as FastEmbed does: for each repetition numpy's `normal(size=(dim, ksim))`.
    pub(super) fn draw(dim: usize, ksim: usize, repetitions: usize, simd: Simd, random: &mut Pcg64) -> Self {
        let normal = Normal::new();
        let mut planes = vec![0.0; repetitions * ksim * dim];
        for planes in planes.chunks_exact_mut((ksim * dim).max(1)) {
            for place in 0..dim {
                (0..ksim).for_each(|plane| planes[plane * dim + place] = normal.draw(random));
            }
        }
        let longest = planes
            .chunks_exact(dim)
            .map(|plane| plane.iter().map(|x| x * x).sum::<f64>().sqrt())
            .fold(0.0, f64::max);
        // The planes are rounded, then `dim` products are, and as many sums, in whatever order: each by at most one
        // part in 2^24 (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), of no more than the product of
        // the lengths. Twice that leaves room for the second order and for the error of float64.
        let doubt = 2.0 * (dim + 2) as f64 * longest / f64::from(1 << 24);
        let rounded: Vec<f32> = planes.iter().map(|x| *x as f32).collect();
        Self { dim, ksim, repetitions, panels: Panels::pack(simd, &rounded, dim), planes, doubt }
    }

    /// The planes in FastEmbed's order, `[repetitions, dim, ksim]`.
    pub(super) fn planes(&self) -> Vec<f64> {
        let (dim, ksim) = (self.dim, self.ksim);
        let of = |repetition: usize, place, plane| self.planes[(repetition * ksim + plane) * dim + place];
        let places = |repetition| (0..dim).map(move |place| (repetition, place));
        (0..self.repetitions)
            .flat_map(places)
            .flat_map(|(repetition, place)| (0..ksim).map(move |plane| of(repetition, place, plane)))
            .collect()
    }

    /// Writes the cluster of every row in every repetition over the zeros of `clusters [repetitions, rows]`.
    pub(super) fn find_clusters(&self, rows: &[f32], clusters: &mut [u32], go_on: GoOn) -> Result<()> {
        let (dim, stride, count) = (self.dim, self.panels.stride(), rows.len() / self.dim);
        if self.ksim == 0 {
            return Ok(());
        }
        let mut products = vec![0.0; BLOCK.min(count) * stride];
        for (block, rows) in rows.chunks(BLOCK * dim).enumerate() {
            let products = &mut products[..rows.len() / dim * stride];
            // One that is not finite is in doubt, like one that is small.
            let _finite = self.panels.products(rows, products);
            let rows = rows.chunks_exact(dim).zip(products.chunks_exact(stride)).enumerate();
            for (index, (row, products)) in rows {
                let place = block * BLOCK + index;
                self.read(row, products, |repetition, id| clusters[repetition * count + place] = id);
            }
            go_on()?;
        }
        Ok(())
    }

    /// The cluster of one row in every repetition, from its products with all planes.
    fn read(&self, row: &[f32], products: &[f32], mut put: impl FnMut(usize, u32)) {
        // Products too small for float32's ordinary precision add to the doubt in absolute terms.
        let doubt = self.doubt * length(row) + self.dim as f64 * f64::from(f32::from_bits(1));
        let doubt = (doubt as f32).next_up();
        let products = &products[..self.panels.columns()];
        let sure = beyond(products, doubt);
        for (repetition, products) in products.chunks_exact(self.ksim).enumerate() {
            let sides = products.iter().enumerate();
            let id = sides.fold(0, |id, (plane, product)| id | u32::from(*product > 0.0) << plane);
            let sure = sure || beyond(products, doubt);
            put(repetition, if sure { id } else { self.exact(repetition, row) });
        }
    }

    fn exact(&self, repetition: usize, row: &[f32]) -> u32 {
        let planes = self.planes[repetition * self.ksim * self.dim..].chunks_exact(self.dim);
        let dot = |plane: &[f64]| row.iter().zip(plane).map(|(x, y)| f64::from(*x) * y).sum::<f64>();
        planes.take(self.ksim).enumerate().fold(0, |id, (bit, plane)| id | u32::from(dot(plane) > 0.0) << bit)
    }
}

/// Whether all numbers are finite and further from zero than `doubt`.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn beyond(numbers: &[f32], doubt: f32) -> bool {
    numbers.iter().fold(true, |sure, x| sure & (x.abs() > doubt) & (x.abs() < f32::INFINITY))
}

/// The length of a row. In lanes, which may fill the widest registers; float64 can neither overflow nor underflow here.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators of pairs are not inlined under other target features"
)]
fn length(row: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let chunks = row.chunks_exact(lanes.len());
    let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    for chunk in chunks {
        for lane in 0..lanes.len() {
            lanes[lane] += f64::from(chunk[lane]) * f64::from(chunk[lane]);
        }
    }
    (lanes.iter().sum::<f64>() + rest).sqrt()
}
