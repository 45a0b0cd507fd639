//! The distances between all clusters, as a square whose rows are whole.

use multiversion::multiversion;

use crate::error::Result;
use crate::kernels::{Panels, Simd};
use crate::memory;
use crate::queue::GoOn;

/// Rows are read and written by whole registers.
pub(super) const LANES: usize = 16;

/// Rows whose distances are computed at once.
const BLOCK: usize = 32;

/// A place is a row and a column; at first there is one for every vector, in order, and [`Square::compact`] takes out
/// those that are gone without changing their order.
#[derive(Default)]
pub(super) struct Square {
    values: Vec<f64>,
    /// From a row to the next.
    stride: usize,
    /// Places, with those that fill up the last register.
    width: usize,
    live: usize,
    /// Each place's first vector.
    names: Vec<usize>,
    /// 0 where there is a cluster, infinity where there is none any more.
    gone: Vec<f64>,
    sizes: Vec<f64>,
    /// How many merges a row knows of.
    seen: Vec<usize>,
    /// The merged clusters, the latest last.
    merged: Vec<Merged>,
    merges: usize,
    products: Vec<f32>,
    line: Vec<f64>,
}

/// A cluster of several vectors.
struct Merged {
    place: usize,
    /// Where its row begins.
    start: usize,
    /// The number of its last merge.
    merge: usize,
}

impl Square {
    /// The bytes of the distances between so many vectors; none if no number can say.
    pub(super) fn bytes(vectors: usize) -> Option<usize> {
        let width = vectors.checked_next_multiple_of(LANES)?;
        stride(width).checked_mul(vectors)?.checked_mul(size_of::<f64>())
    }

    /// Takes the memory for so many vectors, or tells that there is not enough.
    pub(super) fn reserve(&mut self, vectors: usize) -> bool {
        let values = Self::bytes(vectors).map(|bytes| bytes / size_of::<f64>());
        values.is_some_and(|values| {
            let more = values.saturating_sub(self.values.len());
            let room = self.values.try_reserve_exact(more).is_ok();
            memory::advise(&self.values);
            room
        })
    }

    /// Fills in `1 - x.y` of all rows `x` and `y`, in float32. Rounding must not make it negative, and what cannot be
    /// compared is far apart. There must be memory for them.
    pub(super) fn measure(&mut self, simd: Simd, rows: &[f32], dim: usize, go_on: GoOn) -> Result<()> {
        let n = rows.len() / dim;
        self.begin(n);
        let mut panels = Panels::pack(simd, &[], dim);
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            // Block by block, since to take gigabytes at once is to be deaf for a second.
            grow(&mut self.values, self.stride * end);
            panels.repack(&rows[start * dim..end * dim]);
            let line = panels.stride();
            grow(&mut self.products, end * line);
            let products = &mut self.products[..end * line];
            panels.products(&rows[..end * dim], products);
            to_distances(products);
            write(products, line, &mut self.values, self.stride, start);
            go_on()?;
        }
        for i in 0..n {
            self.values[i * self.stride + i] = f64::INFINITY;
        }
        Ok(())
    }

    /// Every one of so many vectors is a cluster.
    fn begin(&mut self, vectors: usize) {
        self.width = vectors.next_multiple_of(LANES);
        self.stride = stride(self.width);
        self.live = vectors;
        self.names.clear();
        self.names.extend(0..vectors);
        self.gone.clear();
        self.gone.resize(vectors, 0.0);
        self.gone.resize(self.width, f64::INFINITY);
        self.sizes.clear();
        self.sizes.resize(self.width, 1.0);
        self.seen.clear();
        self.seen.resize(vectors, 0);
        self.merged.clear();
        self.merges = 0;
    }

    /// The same from distances as scipy has them: the upper triangle, row after row.
    #[cfg(test)]
    pub(super) fn of(vectors: usize, mut condensed: &[f64]) -> Self {
        let mut square = Self::default();
        square.begin(vectors);
        square.values = vec![f64::INFINITY; vectors * square.stride];
        for i in 0..vectors {
            for j in i + 1..vectors {
                let (distance, rest) = condensed.split_first().expect("one for each pair");
                square.values[i * square.stride + j] = *distance;
                square.values[j * square.stride + i] = *distance;
                condensed = rest;
            }
        }
        square
    }

    /// The number of clusters.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The length of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The first place of a cluster.
    pub(super) fn first(&self) -> usize {
        self.gone.iter().position(|gone| *gone == 0.0).unwrap_or(0)
    }

    /// One of the vectors of the cluster at a place.
    pub(super) fn name(&self, place: usize) -> usize {
        self.names[place]
    }

    /// Infinity where there is no cluster.
    pub(super) fn gone(&self) -> &[f64] {
        &self.gone
    }

    /// The distances from a cluster to all others, where it was refreshed; what stands at places without a cluster
    /// means nothing, and to itself the distance is infinite.
    pub(super) fn row(&self, place: usize) -> &[f64] {
        &self.values[place * self.stride..][..self.width]
    }

    /// Brings a row up to date: takes over its distances to what was merged since it was last looked at.
    pub(super) fn refresh(&mut self, place: usize) {
        let seen = std::mem::replace(&mut self.seen[place], self.merges);
        let own = place * self.stride;
        for other in self.merged.iter().rev().take_while(|other| other.merge > seen) {
            self.values[own + other.place] = self.values[other.start + place];
        }
    }

    /// Makes one cluster of two, at the place of the second.
    pub(super) fn merge(&mut self, left: usize, right: usize, height: f64) {
        self.refresh(left);
        self.refresh(right);
        let (low, high) = self.values.split_at_mut(right * self.stride);
        let (to_left, to_right) = (&low[left * self.stride..][..self.width], &mut high[..self.width]);
        ward(to_left, to_right, &self.sizes, (self.sizes[left], self.sizes[right]), height);
        for side in [left, right].into_iter().filter(|&side| self.sizes[side] > 1.0) {
            let place = self.merged.iter().rposition(|merged| merged.place == side);
            place.map(|place| self.merged.remove(place));
        }
        self.sizes[right] += self.sizes[left];
        self.gone[left] = f64::INFINITY;
        self.live -= 1;
        self.merges += 1;
        self.merged.push(Merged { place: right, start: right * self.stride, merge: self.merges });
        self.seen[right] = self.merges;
    }

    /// Takes the places without a cluster out, once they are half of all, and renames the places in `chain`.
    pub(super) fn compact(&mut self, chain: &mut [usize]) {
        if 2 * self.live > self.width || self.width <= 2 * LANES {
            return;
        }
        let places: Vec<usize> = (0..self.names.len()).filter(|&place| self.gone[place] == 0.0).collect();
        let width = places.len().next_multiple_of(LANES);
        let stride = stride(width);
        for (to, &from) in places.iter().enumerate() {
            let row = &self.values[from * self.stride..][..self.width];
            self.line.clear();
            self.line.extend(places.iter().map(|&place| row[place]));
            self.values[to * stride..][..places.len()].copy_from_slice(&self.line);
            self.names[to] = self.names[from];
            self.sizes[to] = self.sizes[from];
            self.seen[to] = self.seen[from];
        }
        let renamed = |place: usize| places.binary_search(&place).unwrap_or(0);
        chain.iter_mut().for_each(|place| *place = renamed(*place));
        for merged in &mut self.merged {
            merged.place = renamed(merged.place);
            merged.start = merged.place * stride;
        }
        self.names.truncate(places.len());
        self.gone[..places.len()].fill(0.0);
        self.gone[places.len()..].fill(f64::INFINITY);
        self.gone.truncate(width);
        self.sizes.truncate(width);
        (self.width, self.stride) = (width, stride);
    }
}

/// Makes room; what is there already may stay, for it will be written over.
fn grow<T: Copy + Default>(values: &mut Vec<T>, len: usize) {
    if values.len() < len {
        values.resize(len, T::default());
    }
}

/// An odd number of registers: else the elements of a column would share a few sets of the cache.
fn stride(width: usize) -> usize {
    if (width / LANES).is_multiple_of(2) { width.saturating_add(LANES) } else { width }
}

/// `1 - product`: rounding must not make it negative, and what cannot be compared is far apart.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn to_distances(products: &mut [f32]) {
    for product in products {
        let distance = 1.0 - *product;
        // NaN is not at most 2.
        *product = if distance <= 2.0 { distance.max(0.0) } else { 2.0 };
    }
}

/// Writes distances, in lines of `line`, to the columns from `start` on of as many rows, and to the same rows of as many
/// columns: above the diagonal and below.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn write(distances: &[f32], line: usize, values: &mut [f64], stride: usize, start: usize) {
    let columns = distances.len() / line - start;
    for (row, distances) in values.chunks_exact_mut(stride).zip(distances.chunks_exact(line)) {
        row[start..][..columns].iter_mut().zip(distances).for_each(|(to, from)| *to = f64::from(*from));
    }
    // What is turned on its side fits into the nearest cache.
    for (tile, distances) in distances[..start * line].chunks_exact(LANES * line).enumerate() {
        let mut turned = [[0.0; LANES]; BLOCK];
        for (lane, distances) in distances.chunks_exact(line).enumerate() {
            turned.iter_mut().zip(distances).for_each(|(to, from)| to[lane] = *from);
        }
        for (row, turned) in values[start * stride..].chunks_exact_mut(stride).zip(&turned[..columns]) {
            row[tile * LANES..][..LANES].iter_mut().zip(turned).for_each(|(to, from)| *to = f64::from(*from));
        }
    }
}

/// Ward's distances from a cluster of two sides that are `height` apart, in place of those from the right one.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn ward(to_left: &[f64], to_right: &mut [f64], sizes: &[f64], (left, right): (f64, f64), height: f64) {
    for ((to_left, to_right), size) in to_left.iter().zip(to_right).zip(sizes) {
        let t = 1.0 / (left + right + size);
        let square = (size + left) * t * to_left * to_left + (size + right) * t * *to_right * *to_right
            - size * t * height * height;
        *to_right = square.sqrt();
    }
}
