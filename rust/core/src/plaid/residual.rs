//! What a centroid leaves of a row, in a few bits a value: ColBERTv2's residual compression, with a length for each row.
//!
//! The values of all residuals are cut into `2^nbits` buckets of equally many; a value becomes the number of its bucket,
//! and comes back as the bucket's median. Frequent tokens are almost their centroids, and rare ones, which matter most, are
//! not: so that both come back, residuals are divided by their length before.

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
    /// What a row's length is a multiple of.
    unit: f32,
    /// For every byte the weights that it stands for.
    table: Vec<[f32; 4]>,
}

impl Buckets {
    /// # Errors
    /// [`Error::Argument`] if `nbits` is neither 2 nor 4.
    pub(super) fn check(nbits: usize) -> Result<()> {
        if [2, 4].contains(&nbits) { Ok(()) } else { Err(Error::argument("nbits", nbits, "2 or 4")) }
    }

    /// Those of such rows of `dim` values.
    pub(super) fn of(mut residuals: Vec<f32>, dim: usize, nbits: usize) -> Self {
        let longest = residuals.chunks_exact(dim).map(length).fold(0.0, f32::max);
        let unit = (longest / f32::from(u8::MAX)).max(f32::MIN_POSITIVE);
        residuals.chunks_exact_mut(dim).for_each(normalise);
        residuals.sort_unstable_by(f32::total_cmp);
        let buckets = 1usize << nbits;
        let value = |place: usize| residuals.get(place).copied().unwrap_or(0.0);
        let last = residuals.len().saturating_sub(1) as f64;
        let quantile = |bucket: usize| value((last * bucket as f64 / buckets as f64).round() as usize);
        let cutoffs: Vec<f32> = (1..buckets).map(quantile).collect();
        // Values that occur often can take a whole bucket's share and more, so that a bucket's median is of those which
        // fall into it; one that nothing falls into stands for its lower end.
        let ends =
            cutoffs.iter().map(|cutoff| residuals.partition_point(|x| x <= cutoff)).chain([residuals.len()]);
        let starts = std::iter::once(0).chain(ends.clone());
        let weights =
            starts.zip(ends).map(|(start, end)| value((start + end).div_ceil(2).saturating_sub(1))).collect();
        Self::new(nbits, cutoffs, weights, unit)
    }

    pub(super) fn new(nbits: usize, cutoffs: Vec<f32>, weights: Vec<f32>, unit: f32) -> Self {
        let each = |byte: usize, place: usize| weights[byte >> (place * nbits) & ((1 << nbits) - 1)];
        let of_byte = |byte: usize| {
            let mut values = [0.0; 4];
            (0..8 / nbits).for_each(|place| values[place] = each(byte, place));
            values
        };
        let table = (0..256).map(of_byte).collect();
        Self { nbits, cutoffs, weights, unit, table }
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

    /// What a row's length is a multiple of.
    pub(super) fn unit(&self) -> f32 {
        self.unit
    }

    /// How many units long a residual is; one that is longer than all of the sample comes back shorter.
    pub(super) fn scale(&self, residual: &[f32]) -> u8 {
        (length(residual) / self.unit + 0.5) as u8
    }

    /// The bytes of a row of `dim` values.
    pub(super) fn row_bytes(&self, dim: usize) -> usize {
        (dim * self.nbits).div_ceil(8)
    }

    /// Appends the bytes of what a centroid left of a row, divided by its length.
    pub(super) fn compress(&self, unit_residual: &[f32], bytes: &mut Vec<u8>) {
        let in_byte = 8 / self.nbits;
        let mut numbers = [0u8; LANES];
        for values in unit_residual.chunks(LANES) {
            numbers.fill(0);
            bucket_numbers(values, &self.cutoffs, &mut numbers);
            for numbers in numbers[..values.len()].chunks(in_byte) {
                let joined = numbers.iter().rev().fold(0, |byte, number| byte << self.nbits | number);
                bytes.push(joined);
            }
        }
    }

    /// Writes about what the row was.
    pub(super) fn decompress(&self, bytes: &[u8], scale: u8, centroid: &[f32], row: &mut [f32]) {
        let scale = f32::from(scale) * self.unit;
        match self.nbits {
            2 => decompress::<4>(&self.table, bytes, scale, centroid, row),
            _ => decompress::<2>(&self.table, bytes, scale, centroid, row),
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+fma", "x86_64+avx2+fma"))]
fn bucket_numbers(values: &[f32], cutoffs: &[f32], numbers: &mut [u8; LANES]) {
    let mut residuals = [0.0; LANES];
    residuals[..values.len()].copy_from_slice(values);
    for cutoff in cutoffs {
        for (number, residual) in numbers.iter_mut().zip(&residuals) {
            *number += u8::from(*residual > *cutoff);
        }
    }
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// Divides a row by its length, unless that is 0.
pub(super) fn normalise(row: &mut [f32]) {
    let length = length(row);
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x /= length);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+fma", "x86_64+avx2+fma"))]
fn decompress<const IN_BYTE: usize>(
    table: &[[f32; 4]],
    bytes: &[u8],
    scale: f32,
    centroid: &[f32],
    row: &mut [f32],
) {
    let ((values, rest), (centers, last)) = (row.as_chunks_mut::<IN_BYTE>(), centroid.as_chunks::<IN_BYTE>());
    for ((values, centers), byte) in values.iter_mut().zip(centers).zip(bytes) {
        let weights = &table[usize::from(*byte)];
        for place in 0..IN_BYTE {
            values[place] = centers[place] + scale * weights[place];
        }
    }
    if let Some(byte) = bytes.last().filter(|_| !rest.is_empty()) {
        let weights = &table[usize::from(*byte)];
        rest.iter_mut()
            .zip(last)
            .zip(weights)
            .for_each(|((value, center), weight)| *value = center + scale * weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    #[test]
    fn a_row_comes_back_nearly_and_better_with_more_bits() {
        for dim in [1, 3, 32, 65, 128] {
            let (rows, centroid) = (numbers(1, 50 * dim), numbers(2, dim));
            let residuals = rows.chunks_exact(dim).enumerate().flat_map(|(index, row)| {
                let scale = 0.001 * (index + 1) as f32; // of very different lengths
                row.iter().map(move |x| x * scale)
            });
            let residuals: Vec<f32> = residuals.collect();
            let errors = [2, 4].map(|nbits| {
                let buckets = Buckets::of(residuals.clone(), dim, nbits);
                let mut worst = 0.0f32;
                for residual in residuals.chunks_exact(dim) {
                    let (mut bytes, mut direction) = (Vec::new(), residual.to_vec());
                    normalise(&mut direction);
                    buckets.compress(&direction, &mut bytes);
                    assert_eq!(bytes.len(), buckets.row_bytes(dim));
                    let mut back = vec![f32::NAN; dim];
                    buckets.decompress(&bytes, buckets.scale(residual), &centroid, &mut back);
                    let off: Vec<f32> =
                        back.iter().zip(residual).zip(&centroid).map(|((back, x), c)| back - c - x).collect();
                    worst = worst.max((length(&off) - buckets.unit()) / length(residual));
                }
                worst
            });
            let most = if dim < 8 { [1.0, 0.5] } else { [0.6, 0.3] };
            assert!(errors[0] < most[0] && errors[1] < most[1], "{dim}: {errors:?}");
        }
    }

    #[test]
    fn buckets_hold_equally_many_and_other_widths_are_refused() {
        let values = numbers(9, 4096);
        let buckets = Buckets::of(values.clone(), 4096, 4);
        let scale = length(&values);
        let ends = std::iter::once(f32::NEG_INFINITY).chain(buckets.cutoffs().iter().copied());
        let ends: Vec<f32> = ends.chain([f32::INFINITY]).collect();
        for (pair, weight) in ends.windows(2).zip(buckets.weights()) {
            let inside = values.iter().filter(|x| pair[0] < **x / scale && **x / scale <= pair[1]).count();
            assert!(inside.abs_diff(256) <= 1, "{inside}");
            assert!(pair[0] <= *weight && *weight <= pair[1]);
        }
        assert!([0, 1, 3, 8].iter().all(|nbits| Buckets::check(*nbits).is_err()));
        Buckets::of(Vec::new(), 4, 2);
    }
}
