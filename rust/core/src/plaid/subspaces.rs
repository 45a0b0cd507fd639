//! What a centroid leaves of a row, in a byte for each of a few parts of it: product quantisation (Jégou et al., 2011), as
//! EMVB (Nardini et al., ECIR 2024) has it between PLAID's centroids and its residuals.

use std::ops::Range;

use super::kmeans::{Centroids, Nearness};
use crate::error::Result;
use crate::kernels::{Cpu, Simd};
use crate::matrices::MatrixView;
use crate::queue::Observer;

/// Parts of a row.
pub(super) const PARTS: usize = 8;

/// What a byte can tell apart.
pub(super) const CODES: usize = 256;

/// A codebook for each part.
pub(super) struct Subspaces {
    dim: usize,
    parts: Vec<Centroids>,
}

/// Where part `part` of a row of `dim` values stands.
pub(super) fn range(dim: usize, part: usize) -> Range<usize> {
    part * dim / PARTS..(part + 1) * dim / PARTS
}

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Scratch {
    rows: Vec<f32>,
    products: Vec<f32>,
    best: Vec<(f32, u16)>,
}

impl Subspaces {
    /// Trained on what is left of some rows, `[rows, dim]`.
    pub(super) fn train(residuals: &[f32], dim: usize, cpu: Cpu, observer: Observer) -> Result<Self> {
        let train = |part| {
            let mut rows = Vec::new();
            cut(residuals, dim, part, &mut rows);
            let width = range(dim, part).len() + 1;
            Centroids::train(
                MatrixView::Float32(&rows),
                width,
                CODES,
                Nearness::Distance,
                cpu,
                &mut *observer,
            )
        };
        Ok(Self { dim, parts: (0..PARTS).map(train).collect::<Result<_>>()? })
    }

    /// For every part its vectors, one after the other, zeros where there are fewer than a byte can tell.
    pub(super) fn values(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(CODES * self.dim);
        for (part, centroids) in self.parts.iter().enumerate() {
            let width = range(self.dim, part).len();
            values.extend(centroids.values().chunks_exact(width + 1).flat_map(|row| &row[..width]));
            values.resize(CODES * range(self.dim, part).end, 0.0);
        }
        values
    }

    /// Appends [`PARTS`] bytes for each of the rows.
    pub(super) fn compress(&self, residuals: &[f32], scratch: &mut Scratch, codes: &mut Vec<u8>) {
        let (start, count) = (codes.len(), residuals.len() / self.dim);
        codes.resize(start + count * PARTS, 0);
        for (part, centroids) in self.parts.iter().enumerate() {
            cut(residuals, self.dim, part, &mut scratch.rows);
            scratch.best.clear();
            scratch.best.resize(count, (f32::NEG_INFINITY, 0));
            centroids.nearest_in(&scratch.rows, &mut scratch.products, &mut scratch.best);
            for (row, (_, code)) in scratch.best.iter().enumerate() {
                codes[start + row * PARTS + part] = *code as u8;
            }
        }
    }
}

/// A part of every row, and a 1 behind it.
fn cut(rows: &[f32], dim: usize, part: usize, cut: &mut Vec<f32>) {
    cut.clear();
    for row in rows.chunks_exact(dim) {
        cut.extend_from_slice(&row[range(dim, part)]);
        cut.push(1.0);
    }
}

/// The products of all vectors of a part with the tokens of a query, `[CODES, tokens]`.
pub(super) fn products(
    values: &[f32],
    dim: usize,
    part: usize,
    query: &[f32],
    simd: Simd,
) -> (Vec<f32>, usize) {
    let (range, tokens) = (range(dim, part), query.len() / dim);
    let width = range.len();
    let vectors = &values[CODES * range.start..CODES * range.end];
    let cut: Vec<f32> = query.chunks_exact(dim).flat_map(|row| &row[range.clone()]).copied().collect();
    if width == 0 {
        return (vec![0.0; CODES * tokens], tokens);
    }
    let panels = crate::kernels::Panels::pack(simd, &cut, width);
    let mut out = vec![0.0; CODES * panels.stride()];
    panels.products(vectors, &mut out);
    (out, panels.stride())
}
