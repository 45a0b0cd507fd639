//! One repetition of an encoding: a vector for each cluster, made smaller by random signs.

use multiversion::multiversion;

use crate::kernels::{Panels, Simd};

/// Columns that are added up at a time: their sums stay in registers.
const COLUMNS: usize = 64;

/// Rows that are added up in float32.
const FEW: usize = 8;

/// No vector.
const NONE: u32 = u32::MAX;

/// How the rows of a cluster become one, and whether an empty cluster stays empty.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    Query,
    Document,
}

/// What turns the rows of clusters into a part of an encoding.
pub(super) struct Block {
    dim: usize,
    /// Values a cluster.
    width: usize,
    /// What projects; None if nothing is to be projected.
    signs: Option<Panels>,
}

/// Memory that is used again for the next repetition.
#[derive(Default)]
pub(super) struct Scratch {
    /// The rows by cluster, in their order.
    order: Vec<u32>,
    /// Where each cluster's rows begin in `order`, and at the end their number.
    starts: Vec<u32>,
    /// All different vectors that clusters hold, `[vectors, dim]`.
    vectors: Vec<f32>,
    /// The same, projected `[vectors, stride]`.
    projected: Vec<f32>,
    /// Which vector a cluster holds.
    held: Vec<u32>,
    /// For every cluster the distance to the nearest one with rows, and which that is.
    nearest: Vec<u64>,
    /// Which vector is the first row of a cluster.
    firsts: Vec<u32>,
}

impl Block {
    /// `signs [dim, width]`, or none if nothing is to be projected.
    pub(super) fn new(dim: usize, width: usize, signs: &[i8], simd: Simd) -> Self {
        let columns = (0..width).flat_map(|column| signs.iter().skip(column).step_by(width));
        let columns: Vec<f32> = columns.map(|sign| f32::from(*sign)).collect();
        let signs = (!columns.is_empty()).then(|| Panels::pack(simd, &columns, dim));
        Self { dim, width, signs }
    }

    /// Encodes `rows` that lie in `clusters` into `part`, the zeros of all clusters' values.
    pub(super) fn encode(
        &self,
        role: Role,
        rows: &[f32],
        clusters: &[u32],
        scratch: &mut Scratch,
        part: &mut [f32],
    ) {
        scratch.sort(clusters, part.len() / self.width);
        scratch.join(role, rows, self.dim);
        if role == Role::Document {
            scratch.fill(rows, self.dim);
        }
        let parts = part.chunks_exact_mut(self.width).zip(&scratch.held).filter(|(_, held)| **held != NONE);
        let Some(signs) = &self.signs else {
            for (part, held) in parts {
                part.copy_from_slice(&scratch.vectors[*held as usize * self.dim..][..self.dim]);
            }
            return;
        };
        // Products with a sign are exact and are added in the order of the row, so every instruction set gives the same
        // bytes. What overflows is noticed by the caller.
        let stride = signs.stride();
        scratch.projected.resize(scratch.vectors.len() / self.dim * stride, 0.0);
        let _finite = signs.products(&scratch.vectors, &mut scratch.projected);
        let scale = 1.0 / (self.width as f32).sqrt();
        for (part, held) in parts {
            let projected = &scratch.projected[*held as usize * stride..];
            part.iter_mut().zip(projected).for_each(|(to, from)| *to = from * scale);
        }
    }
}

impl Scratch {
    /// Lists the rows by cluster.
    fn sort(&mut self, clusters: &[u32], count: usize) {
        self.starts.clear();
        self.starts.resize(count + 1, 0);
        clusters.iter().for_each(|cluster| self.starts[*cluster as usize + 1] += 1);
        (0..count).for_each(|cluster| self.starts[cluster + 1] += self.starts[cluster]);
        self.order.resize(clusters.len(), 0);
        let mut ends = self.starts.clone();
        for (row, cluster) in clusters.iter().enumerate() {
            let end = &mut ends[*cluster as usize];
            self.order[*end as usize] = row as u32;
            *end += 1;
        }
    }

    fn members(&self, cluster: usize) -> std::ops::Range<usize> {
        self.starts[cluster] as usize..self.starts[cluster + 1] as usize
    }

    /// Gives every cluster that has rows their sum, or their mean.
    fn join(&mut self, role: Role, rows: &[f32], dim: usize) {
        let count = self.starts.len() - 1;
        self.vectors.clear();
        self.held.clear();
        for cluster in 0..count {
            let members = self.members(cluster);
            if members.is_empty() {
                self.held.push(NONE);
                continue;
            }
            self.held.push((self.vectors.len() / dim) as u32);
            let scale = if role == Role::Document { 1.0 / members.len() as f64 } else { 1.0 };
            let start = self.vectors.len();
            self.vectors.resize(start + dim, 0.0);
            join(&self.order[members], rows, scale, &mut self.vectors[start..]);
        }
    }

    /// Gives every cluster without rows the first row of the nearest cluster that has some.
    fn fill(&mut self, rows: &[f32], dim: usize) {
        let count = self.held.len();
        self.find_nearest();
        self.firsts.clear();
        self.firsts.resize(count, NONE);
        for cluster in 0..count {
            if self.held[cluster] != NONE {
                continue;
            }
            let nearest = self.nearest[cluster] as u32 as usize;
            let members = self.members(nearest);
            if self.firsts[nearest] == NONE {
                // The mean of a single row is that row.
                self.firsts[nearest] = if members.len() == 1 {
                    self.held[nearest]
                } else {
                    let first = self.order[members.start] as usize;
                    self.vectors.extend_from_slice(&rows[first * dim..][..dim]);
                    (self.vectors.len() / dim - 1) as u32
                };
            }
            self.held[cluster] = self.firsts[nearest];
        }
    }

    /// For every cluster the nearest with rows, by the hyperplanes that lie between the two; of several the lowest.
    ///
    /// A step over one hyperplane after the other: what is nearest then takes a pass a hyperplane, not a look at every
    /// pair of clusters.
    fn find_nearest(&mut self) {
        const STEP: u64 = 1 << 32;
        const FAR: u64 = u64::MAX >> 1;
        let held = self.held.iter().enumerate();
        self.nearest.clear();
        self.nearest.extend(held.map(|(cluster, held)| if *held == NONE { FAR } else { cluster as u64 }));
        let mut half = 1;
        while half < self.nearest.len() {
            for pair in self.nearest.chunks_exact_mut(2 * half) {
                let (zeros, ones) = pair.split_at_mut(half);
                for (zero, one) in zeros.iter_mut().zip(ones) {
                    (*zero, *one) = ((*zero).min(*one + STEP), (*one).min(*zero + STEP));
                }
            }
            half *= 2;
        }
    }
}

/// The sum of some rows times `scale`: float32 for a few rows at a time, float64 over those, so that however many rows
/// are added up, the sum is nearly exact to float32.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators of pairs are not inlined under other target features"
)]
fn join(members: &[u32], rows: &[f32], scale: f64, joined: &mut [f32]) {
    let dim = joined.len();
    let (whole, rest) = joined.as_chunks_mut::<COLUMNS>();
    let mut first = 0;
    for joined in whole {
        let mut sums = [0.0f64; COLUMNS];
        for few in members.chunks(FEW) {
            let mut partial = [0.0f32; COLUMNS];
            for row in few {
                let row = &rows[*row as usize * dim + first..][..COLUMNS];
                for column in 0..COLUMNS {
                    partial[column] += row[column];
                }
            }
            for column in 0..COLUMNS {
                sums[column] += f64::from(partial[column]);
            }
        }
        for column in 0..COLUMNS {
            joined[column] = (sums[column] * scale) as f32;
        }
        first += COLUMNS;
    }
    for column in 0..rest.len() {
        let values = members.iter().map(|row| f64::from(rows[*row as usize * dim + first + column]));
        rest[column] = (values.sum::<f64>() * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest cluster with rows by looking at every pair, for every set of clusters with rows.
    #[test]
    fn the_nearest_is_that_of_every_pair() {
        for count in [1, 2, 4, 8] {
            for occupied in 1u32..1 << count {
                let held: Vec<u32> =
                    (0..count).map(|c| if occupied >> c & 1 == 1 { c } else { NONE }).collect();
                let mut scratch = Scratch { held: held.clone(), ..Scratch::default() };
                scratch.find_nearest();
                for cluster in 0..count {
                    let others = held.iter().filter(|other| **other != NONE);
                    let want = others.min_by_key(|other| ((*other ^ cluster).count_ones(), **other));
                    assert_eq!(scratch.nearest[cluster as usize] as u32, *want.expect("one has rows"));
                }
            }
        }
    }
}
