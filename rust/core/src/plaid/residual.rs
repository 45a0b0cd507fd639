//! What a centroid leaves of a row, in a few bits a value: ColBERTv2's residual compression.
//!
//! The values of all residuals are cut into `2^nbits` buckets of equally many; a value becomes the number of its bucket,
//! and comes back as the bucket's median.

use multiversion::multiversion;

use crate::error::{Error, Result};

/// Values that are compared with all cutoffs at a time.
const LANES: usize = 64;

/// Where buckets begin, and what stands for each of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Buckets {
    nbits: usize,
    /// `2^nbits - 1`, rising.
    cutoffs: Vec<f32>,
    /// `2^nbits`, rising.
    weights: Vec<f32>,
    /// For every byte the weights that it stands for.
    table: Vec<[f32; 4]>,
}

impl Buckets {
    /// # Errors
    /// [`Error::Argument`] if `nbits` is neither 2 nor 4.
    pub(super) fn check(nbits: usize) -> Result<()> {
        if [2, 4].contains(&nbits) { Ok(()) } else { Err(Error::argument("nbits", nbits, "2 or 4")) }
    }

    /// Those of such values. They are sorted.
    pub(super) fn of(mut residuals: Vec<f32>, nbits: usize) -> Self {
        residuals.sort_unstable_by(f32::total_cmp);
        let buckets = 1usize << nbits;
        let quantile = |part: f64| {
            let place = part * residuals.len().saturating_sub(1) as f64;
            residuals.get(place.round() as usize).copied().unwrap_or(0.0)
        };
        let cutoffs = (1..buckets).map(|bucket| quantile(bucket as f64 / buckets as f64)).collect();
        let weights = (0..buckets).map(|bucket| quantile((bucket as f64 + 0.5) / buckets as f64)).collect();
        Self::new(nbits, cutoffs, weights)
    }

    pub(super) fn new(nbits: usize, cutoffs: Vec<f32>, weights: Vec<f32>) -> Self {
        let each = |byte: usize, place: usize| weights[byte >> (place * nbits) & ((1 << nbits) - 1)];
        let of_byte = |byte: usize| {
            let mut values = [0.0; 4];
            (0..8 / nbits).for_each(|place| values[place] = each(byte, place));
            values
        };
        let table = (0..256).map(of_byte).collect();
        Self { nbits, cutoffs, weights, table }
    }

    pub(super) fn nbits(&self) -> usize {
        self.nbits
    }

    pub(super) fn cutoffs(&self) -> &[f32] {
        &self.cutoffs
    }

    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The bytes of a row of `dim` values.
    pub(super) fn row_bytes(&self, dim: usize) -> usize {
        (dim * self.nbits).div_ceil(8)
    }

    /// Appends the bytes of what a centroid leaves of a row.
    pub(super) fn compress(&self, row: &[f32], centroid: &[f32], bytes: &mut Vec<u8>) {
        let in_byte = 8 / self.nbits;
        let mut numbers = [0u8; LANES];
        for (row, centroid) in row.chunks(LANES).zip(centroid.chunks(LANES)) {
            numbers.fill(0);
            bucket_numbers(row, centroid, &self.cutoffs, &mut numbers);
            for numbers in numbers[..row.len()].chunks(in_byte) {
                let joined = numbers.iter().rev().fold(0, |byte, number| byte << self.nbits | number);
                bytes.push(joined);
            }
        }
    }

    /// Writes about what the row was.
    pub(super) fn decompress(&self, bytes: &[u8], centroid: &[f32], row: &mut [f32]) {
        match self.nbits {
            2 => decompress::<4>(&self.table, bytes, centroid, row),
            _ => decompress::<2>(&self.table, bytes, centroid, row),
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+fma", "x86_64+avx2+fma"))]
fn bucket_numbers(row: &[f32], centroid: &[f32], cutoffs: &[f32], numbers: &mut [u8; LANES]) {
    let mut residuals = [0.0; LANES];
    residuals.iter_mut().zip(row.iter().zip(centroid)).for_each(|(residual, (x, c))| *residual = x - c);
    for cutoff in cutoffs {
        for (number, residual) in numbers.iter_mut().zip(&residuals) {
            *number += u8::from(*residual > *cutoff);
        }
    }
}

fn decompress<const IN_BYTE: usize>(table: &[[f32; 4]], bytes: &[u8], centroid: &[f32], row: &mut [f32]) {
    let ((values, rest), (centers, last)) = (row.as_chunks_mut::<IN_BYTE>(), centroid.as_chunks::<IN_BYTE>());
    for ((values, centers), byte) in values.iter_mut().zip(centers).zip(bytes) {
        let weights = &table[usize::from(*byte)];
        for place in 0..IN_BYTE {
            values[place] = centers[place] + weights[place];
        }
    }
    if let Some(byte) = bytes.last().filter(|_| !rest.is_empty()) {
        let weights = &table[usize::from(*byte)];
        rest.iter_mut().zip(last).zip(weights).for_each(|((value, center), weight)| *value = center + weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    #[test]
    fn a_value_comes_back_as_that_of_its_bucket() {
        for (nbits, dim) in [2, 4].into_iter().flat_map(|nbits| [1, 3, 32, 65, 128].map(|dim| (nbits, dim))) {
            let (rows, centroid) = (numbers(1, 50 * dim), numbers(2, dim));
            let residuals =
                rows.chunks_exact(dim).flat_map(|row| row.iter().zip(&centroid).map(|(x, c)| x - c));
            let buckets = Buckets::of(residuals.collect(), nbits);
            for row in rows.chunks_exact(dim) {
                let mut bytes = Vec::new();
                buckets.compress(row, &centroid, &mut bytes);
                assert_eq!(bytes.len(), buckets.row_bytes(dim));
                let mut back = vec![f32::NAN; dim];
                buckets.decompress(&bytes, &centroid, &mut back);
                for ((back, x), c) in back.iter().zip(row).zip(&centroid) {
                    let bucket = buckets.cutoffs().iter().filter(|cutoff| x - c > **cutoff).count();
                    assert_eq!(*back, c + buckets.weights()[bucket]);
                }
            }
        }
    }

    #[test]
    fn buckets_hold_equally_many_and_other_widths_are_refused() {
        let values = numbers(9, 4096);
        let buckets = Buckets::of(values.clone(), 4);
        let ends = std::iter::once(f32::NEG_INFINITY).chain(buckets.cutoffs().iter().copied());
        let ends: Vec<f32> = ends.chain([f32::INFINITY]).collect();
        for (pair, weight) in ends.windows(2).zip(buckets.weights()) {
            let inside = values.iter().filter(|x| pair[0] < **x && **x <= pair[1]).count();
            assert!(inside.abs_diff(256) <= 1, "{inside}");
            assert!(pair[0] <= *weight && *weight <= pair[1]);
        }
        assert!([0, 1, 3, 8].iter().all(|nbits| Buckets::check(*nbits).is_err()));
        Buckets::of(Vec::new(), 2);
    }
}
