//! Ward linkage by chains of nearest neighbours: the merges of scipy's `linkage(..., "ward")`, ties included, in the order
//! in which it finds them.
//!
//! Scipy keeps the triangle of distances and walks down its columns. Here every row of the square is whole, so that
//! looking for the nearest and updating are loops over neighbours in memory. A merge writes one row only; a row that
//! it made stale is put right when it is next looked at ([`Square::refresh`]), which is seldom.

use multiversion::multiversion;

use super::clusters::Merge;
use super::square::{LANES, Square};
use crate::error::Result;
use crate::queue::GoOn;

/// Distances looked at between two questions whether to go on: less than a millisecond's.
const STRIDE_OF_WORK: usize = 1 << 20;

/// The memory of a linkage, which one document after the other may use.
#[derive(Default)]
pub(super) struct Linkage {
    chain: Vec<usize>,
    merges: Vec<Merge>,
}

impl Linkage {
    /// The merges of the clusters in `square`, which is of no use afterwards: each side is named by one of its rows.
    pub(super) fn merge_all(&mut self, square: &mut Square, go_on: GoOn) -> Result<&mut [Merge]> {
        self.chain.clear();
        self.merges.clear();
        let mut work = 0;
        while square.live() > 1 {
            square.compact(&mut self.chain);
            let (left, right, height) = nearest_pair(square, &mut self.chain, &mut work);
            self.merges.push(Merge { left: square.name(left), right: square.name(right), height });
            square.merge(left, right, height);
            // Only where rounding makes ties run in a circle can the cluster that is gone stand further down as well.
            let sound = self.chain.iter().take_while(|place| **place != left).count();
            self.chain.truncate(sound);
            if work > STRIDE_OF_WORK {
                work = 0;
                go_on()?;
            }
        }
        Ok(&mut self.merges)
    }
}

/// Follows the chain to two clusters that are each other's nearest, and takes them off: their places, the lower first,
/// and their distance. Of equally near ones the previous link comes first, then the lowest; without the former a
/// chain of ties would never end.
fn nearest_pair(square: &mut Square, chain: &mut Vec<usize>, work: &mut usize) -> (usize, usize, f64) {
    let mut top = chain.pop().unwrap_or_else(|| square.first());
    loop {
        square.refresh(top);
        *work += square.width();
        let (nearest, height) = nearest(square.row(top), square.gone());
        let previous = chain.pop();
        if let Some(previous) = previous.filter(|&previous| square.row(top)[previous] <= height) {
            return (top.min(previous), top.max(previous), square.row(top)[previous]);
        }
        chain.extend(previous);
        chain.push(top);
        top = nearest;
    }
}

/// The first of the nearest places, and its distance; `gone` is infinite where there is no cluster any more.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn nearest(row: &[f64], gone: &[f64]) -> (usize, f64) {
    // Each lane's smallest, and the first block that it is in.
    let (mut least, mut first) = ([f64::INFINITY; LANES], [0.0; LANES]);
    let mut number = 0.0;
    for (block, gone) in row.as_chunks::<LANES>().0.iter().zip(gone.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            let distance = block[lane] + gone[lane];
            let nearer = distance < least[lane];
            least[lane] = if nearer { distance } else { least[lane] };
            first[lane] = if nearer { number } else { first[lane] };
        }
        number += 1.0;
    }
    let height = smallest(least);
    for lane in 0..LANES {
        let place = first[lane] * LANES as f64 + lane as f64;
        first[lane] = if least[lane] == height { place } else { f64::INFINITY };
    }
    (smallest(first) as usize, height)
}

#[inline(always)]
fn smallest(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let (x, y) = (lanes[lane], lanes[lane + half]);
            lanes[lane] = if x < y { x } else { y };
        }
        half /= 2;
    }
    lanes[0]
}
