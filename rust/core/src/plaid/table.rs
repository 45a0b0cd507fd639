//! The products of all that a code can mean with a query's tokens, in a byte each: enough to rank documents by, and looked
//! up faster than anything is multiplied.

use multiversion::multiversion;

use super::segment::PlaidSegment;
use super::subspaces::{self, CODES, PARTS};
use crate::error::Result;
use crate::kernels::Simd;

/// Columns that are looked at together: a register.
const LANES: usize = 32;

/// What a product with a centroid is a multiple of, where the largest is 1.
const STEPS: f32 = 254.0;

/// By what power of two sums over parts are too large, so that few of their bits are lost.
const SHIFT: u32 = 2;

pub(super) struct Table {
    /// `[partitions, stride]`.
    centroids: Vec<u8>,
    /// `[PARTS, CODES, stride]`.
    parts: Vec<i8>,
    /// The number of the query's tokens, up to the next full register.
    stride: usize,
    /// Turns a residual's length and a sum over its parts into steps of a centroid.
    factor: f32,
}

impl Table {
    /// Products with centroids have the same step for all tokens, so that they add up, and begin at each token's average:
    /// a document whose best is less is not looked for.
    pub(super) fn new(
        products: &[f32],
        product_stride: usize,
        query: &[f32],
        segment: &PlaidSegment,
        simd: Simd,
    ) -> Result<Self> {
        let (dim, partitions) = (segment.dim(), segment.partitions());
        let tokens = query.len() / dim;
        let stride = tokens.next_multiple_of(LANES);
        let mut most = vec![f32::NEG_INFINITY; tokens];
        let mut sums = vec![0.0f64; tokens];
        for row in products.chunks_exact(product_stride) {
            for ((most, sum), x) in most.iter_mut().zip(&mut sums).zip(row) {
                *most = most.max(*x);
                *sum += f64::from(*x);
            }
        }
        let least: Vec<f32> = sums.iter().map(|sum| (sum / partitions as f64) as f32).collect();
        let range = most.iter().zip(&least).map(|(most, least)| most - least).fold(0.0, f32::max);
        let step = (range / STEPS).max(f32::MIN_POSITIVE);
        let mut centroids = vec![0u8; partitions * stride];
        for (bytes, row) in centroids.chunks_exact_mut(stride).zip(products.chunks_exact(product_stride)) {
            for ((byte, x), least) in bytes.iter_mut().zip(row).zip(&least) {
                *byte = ((x - least) / step + 0.5) as u8; // never below 0
            }
        }
        let values = segment.subcentroids()?;
        let of_parts: Vec<_> =
            (0..PARTS).map(|part| subspaces::products(values, dim, part, query, simd)).collect();
        let largest =
            of_parts.iter().flat_map(|(products, _)| products).fold(0.0f32, |most, x| most.max(x.abs()));
        let part_step = (largest / f32::from(i8::MAX)).max(f32::MIN_POSITIVE);
        let mut parts = vec![0i8; PARTS * CODES * stride];
        for (bytes, (products, product_stride)) in parts.chunks_exact_mut(CODES * stride).zip(&of_parts) {
            for (bytes, row) in bytes.chunks_exact_mut(stride).zip(products.chunks_exact(*product_stride)) {
                bytes
                    .iter_mut()
                    .zip(&row[..tokens])
                    .for_each(|(byte, x)| *byte = (x / part_step).round() as i8);
            }
        }
        let factor = segment.buckets().unit() * part_step / step * (1u32 << (16 - SHIFT)) as f32;
        Ok(Self { centroids, parts, stride, factor })
    }

    /// The sum over the query's tokens of the best of a document's centroids; None if a code is none of a centroid.
    pub(super) fn by_centroids(&self, codes: &[u16]) -> Option<u32> {
        let columns = (0..self.stride).step_by(LANES);
        columns.map(|column| by_centroids(&self.centroids, self.stride, column, codes)).sum()
    }

    /// The same with what the parts of the residuals add.
    pub(super) fn by_parts(&self, codes: &[u16], subcodes: &[[u8; PARTS]], scales: &[u8]) -> Option<u32> {
        let columns = (0..self.stride).step_by(LANES);
        columns.map(|column| by_parts(self, column, codes, subcodes, scales)).sum()
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn by_centroids(centroids: &[u8], stride: usize, column: usize, codes: &[u16]) -> Option<u32> {
    let mut best = [0u8; LANES];
    for code in codes {
        let row: &[u8; LANES] = centroids.get(usize::from(*code) * stride + column..)?.first_chunk()?;
        for (best, byte) in best.iter_mut().zip(row) {
            *best = (*best).max(*byte);
        }
    }
    Some(best.iter().map(|byte| u32::from(*byte)).sum())
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn by_parts(
    table: &Table,
    column: usize,
    codes: &[u16],
    subcodes: &[[u8; PARTS]],
    scales: &[u8],
) -> Option<u32> {
    let mut best = [0i16; LANES];
    for ((code, subcodes), scale) in codes.iter().zip(subcodes).zip(scales) {
        let mut sum = [0i16; LANES];
        for (part, code) in subcodes.iter().enumerate() {
            let place = (part * CODES + usize::from(*code)) * table.stride + column;
            let row: &[i8; LANES] = table.parts.get(place..)?.first_chunk()?;
            for (sum, byte) in sum.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i16::from(*byte)); // at most 8 times 127
            }
        }
        let factor = (f32::from(*scale) * table.factor) as i16; // the largest there is for what is beyond
        let centroid: &[u8; LANES] =
            table.centroids.get(usize::from(*code) * table.stride + column..)?.first_chunk()?;
        for ((best, sum), byte) in best.iter_mut().zip(&sum).zip(centroid) {
            let added = ((i32::from(*sum << SHIFT) * i32::from(factor)) >> 16) as i16;
            *best = (*best).max(i16::from(*byte).wrapping_add(added));
        }
    }
    Some(best.iter().map(|best| *best as u32).sum())
}
