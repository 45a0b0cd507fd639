//! Centroids, and which of them is nearest.

use std::sync::{Mutex, PoisonError};

use multiversion::multiversion;

use crate::error::{Error, Result};
use crate::kernels::{Cpu, Panels, Simd};
use crate::matrices::MatrixView;
use crate::queue::{self, GoOn, Observer};

/// Rounds of Lloyd's algorithm; PLAID has four.
const ROUNDS: usize = 4;

/// Centroids whose products are computed at a time: with 128 values each they stay in the second cache.
const PANEL: usize = 512;

/// Rows whose products with a panel are held at a time, in the first cache.
const BLOCK: usize = 24;

/// Rows of a job.
const JOB: usize = 960;

/// What makes a centroid the nearest: the largest inner product with a row in any case.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Nearness {
    /// Of unit vectors.
    Cosine,
    /// Of vectors that end with minus half of their squared length, where rows end with 1.
    Distance,
}

/// Vectors, packed for the question which of them has the largest inner product with a row.
pub(super) struct Centroids {
    values: Vec<f32>,
    panels: Vec<Panels>,
    dim: usize,
}

impl Centroids {
    pub(super) fn new(values: Vec<f32>, dim: usize, simd: Simd) -> Self {
        let panels = values.chunks(PANEL * dim).map(|rows| Panels::pack(simd, rows, dim)).collect();
        Self { values, panels, dim }
    }

    /// `[partitions, dim]`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn get(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// Trained on a sample of rows, from those that stand evenly spread among them. Of as many rows at most as there are.
    pub(super) fn train(
        sample: MatrixView,
        dim: usize,
        partitions: usize,
        nearness: Nearness,
        cpu: Cpu,
        observer: Observer,
    ) -> Result<Self> {
        let rows = sample.len() / dim;
        let partitions = partitions.min(rows);
        let mut scratch = Vec::new();
        let mut values = Vec::with_capacity(partitions * dim);
        for index in 0..partitions {
            let row = index * rows / partitions;
            values
                .extend_from_slice(sample.slice(row * dim..(row + 1) * dim).widened(cpu.simd, &mut scratch));
        }
        values.chunks_exact_mut(dim).for_each(|row| nearness.finish(row, 1));
        let mut centroids = Self::new(values, dim, cpu.simd);
        for _ in 0..ROUNDS {
            let codes = centroids.nearest(sample, cpu, &mut *observer)?;
            let mut sums = vec![0.0; partitions * dim];
            let mut counts = vec![0usize; partitions];
            for (row, code) in codes.iter().enumerate() {
                let values = sample.slice(row * dim..(row + 1) * dim).widened(cpu.simd, &mut scratch);
                let sum = &mut sums[usize::from(*code) * dim..][..dim];
                sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
                counts[usize::from(*code)] += 1;
            }
            for (index, sum) in sums.chunks_exact_mut(dim).enumerate() {
                if counts[index] == 0 {
                    sum.copy_from_slice(centroids.get(index)); // nobody's: it stays where it is
                } else {
                    nearness.finish(sum, counts[index]);
                }
            }
            centroids = Self::new(sums, dim, cpu.simd);
        }
        Ok(centroids)
    }

    /// The index of the nearest for every row.
    ///
    /// # Errors
    /// [`Error::Argument`] if a value is not finite, and what the observer returns, who is told how many rows are done.
    pub(super) fn nearest(&self, rows: MatrixView, cpu: Cpu, observer: Observer) -> Result<Vec<u16>> {
        let count = rows.len() / self.dim;
        let codes = Mutex::new(vec![0u16; count]);
        let worker = || {
            let (mut scratch, mut products, mut best) = (Vec::new(), Vec::new(), Vec::new());
            let codes = &codes;
            move |start: usize, _: GoOn| {
                let end = count.min(start + JOB);
                let rows = rows.slice(start * self.dim..end * self.dim);
                best.clear();
                best.resize(end - start, (f32::NEG_INFINITY, 0));
                if !self.nearest_in(rows.widened(cpu.simd, &mut scratch), &mut products, &mut best) {
                    let got = "a value that is not finite, or whose products overflow";
                    return Err(Error::argument("documents", got, "finite values of moderate size"));
                }
                let mut codes = codes.lock().unwrap_or_else(PoisonError::into_inner);
                codes[start..end].iter_mut().zip(&best).for_each(|(code, (_, index))| *code = *index);
                Ok(end - start)
            }
        };
        queue::run((0..count).step_by(JOB).collect(), cpu.threads, worker, observer)?;
        Ok(codes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Of equal ones the first is taken. False if a product is not finite.
    pub(super) fn nearest_in(&self, rows: &[f32], products: &mut Vec<f32>, best: &mut [(f32, u16)]) -> bool {
        for (number, panel) in self.panels.iter().enumerate() {
            let stride = panel.stride();
            products.resize(BLOCK * stride, 0.0);
            for (rows, best) in rows.chunks(BLOCK * self.dim).zip(best.chunks_mut(BLOCK)) {
                let products = &mut products[..best.len() * stride];
                if !panel.products(rows, products) {
                    return false;
                }
                for (products, best) in products.chunks_exact(stride).zip(best) {
                    let products = &products[..panel.columns()];
                    let most = largest(products);
                    if most > best.0 {
                        let place = products.iter().position(|x| *x == most).unwrap_or(0);
                        *best = (most, (number * PANEL + place) as u16);
                    }
                }
            }
        }
        true
    }
}

#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn largest(values: &[f32]) -> f32 {
    const LANES: usize = 32;
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for lane in lanes {
        for (most, x) in most.iter_mut().zip(lane) {
            *most = if *x > *most { *x } else { *most };
        }
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

impl Nearness {
    /// Makes the sum of some rows their centroid.
    fn finish(self, sum: &mut [f32], count: usize) {
        let squared = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        match self {
            Self::Cosine => {
                let length = squared(sum).sqrt() as f32;
                if length > 0.0 {
                    sum.iter_mut().for_each(|x| *x /= length);
                }
            }
            Self::Distance => {
                sum.iter_mut().for_each(|x| *x /= count as f32);
                if let Some((last, row)) = sum.split_last_mut() {
                    *last = (squared(row) / -2.0) as f32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    #[test]
    fn the_nearest_is_the_one_with_the_largest_product() {
        let (dim, rows) = (24, 1000);
        let (sample, x) = (numbers(3, 2000 * dim), numbers(5, rows * dim));
        for partitions in [1, 7, 512, 513, 1100] {
            for simd in Simd::available() {
                let cpu = Cpu { simd, threads: 2 };
                let view = MatrixView::Float32(&sample[..partitions * dim]);
                let centroids =
                    Centroids::train(view, dim, partitions, Nearness::Cosine, cpu, &mut |_| Ok(()))
                        .expect("finite");
                let codes = centroids.nearest(MatrixView::Float32(&x), cpu, &mut |_| Ok(())).expect("finite");
                for (row, code) in x.chunks_exact(dim).zip(codes) {
                    let dot = |y: &[f32]| {
                        row.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
                    };
                    let most =
                        centroids.values().chunks_exact(dim).map(dot).fold(f64::NEG_INFINITY, f64::max);
                    assert!(dot(centroids.get(usize::from(code))) > most - 1e-4, "{partitions}");
                }
            }
        }
    }

    #[test]
    fn separate_clusters_are_found_and_values_that_are_not_finite_refused() {
        let mut sample = Vec::new();
        for index in 0..400 {
            let mut row = [0.0; 4];
            row[index % 4] = 1.0;
            row[(index + 1) % 4] = 0.01 * (index as f32 % 7.0);
            sample.extend(row);
        }
        let cpu = Cpu::detect().expect("there is one");
        let view = MatrixView::Float32(&sample);
        let centroids = Centroids::train(view, 4, 9, Nearness::Cosine, cpu, &mut |_| Ok(())).expect("finite");
        let codes = centroids.nearest(view, cpu, &mut |_| Ok(())).expect("finite");
        for (row, code) in sample.chunks_exact(4).zip(codes) {
            let dot: f32 = row.iter().zip(centroids.get(usize::from(code))).map(|(x, y)| x * y).sum();
            assert!(dot > 0.98);
        }
        sample[17] = f32::NAN;
        let refused = centroids.nearest(MatrixView::Float32(&sample), cpu, &mut |_| Ok(()));
        assert!(matches!(refused, Err(Error::Argument { .. })));
    }
}
