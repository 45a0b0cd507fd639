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

#[cfg(test)]
mod tests {
    use super::super::clusters;
    use super::*;
    use crate::error::Error;

    fn labels(vectors: usize, condensed: &[f64], clusters: usize) -> Vec<usize> {
        let mut linkage = Linkage::default();
        let merges = linkage.merge_all(&mut Square::of(vectors, condensed), &mut || Ok(()));
        clusters::cut(merges.expect("nobody interrupts"), clusters)
    }

    #[test]
    fn clusters_are_numbered_as_scipy_does() {
        // linkage([.5, .1, .9, .9, .8, .2, .9, .9, .9, .7], "ward") and its fcluster(..., t, "maxclust").
        let condensed = [0.5, 0.1, 0.9, 0.9, 0.8, 0.2, 0.9, 0.9, 0.9, 0.7];
        let labels = [1, 2, 3, 4].map(|clusters| labels(5, &condensed, clusters));
        assert_eq!(labels, [[1, 1, 1, 1, 1], [1, 2, 1, 2, 2], [1, 2, 1, 2, 3], [1, 2, 1, 3, 4]]);
    }

    #[test]
    fn the_nearest_place_is_the_first_of_equal_ones_that_are_not_gone() {
        let mut row = vec![3.0; 5 * LANES];
        let mut gone = vec![0.0; row.len()];
        for places in [[70, 40, 41], [79, 17, 33], [5, 1, 0], [64, 16, 32]] {
            places.iter().for_each(|&place| row[place] = 1.0);
            let first = *places.iter().min().expect("some");
            assert_eq!(nearest(&row, &gone), (first, 1.0));
            gone[first] = f64::INFINITY;
            let second = *places.iter().filter(|&&place| place != first).min().expect("some");
            assert_eq!(nearest(&row, &gone), (second, 1.0));
            gone[first] = 0.0;
            row.fill(3.0);
        }
    }

    #[test]
    fn an_interrupt_ends_a_large_linkage() {
        let n = 1500;
        let condensed: Vec<f64> = (0..n * (n - 1) / 2).map(|i| (i * 7919 % 104_729) as f64).collect();
        let mut square = Square::of(n, &condensed);
        let mut linkage = Linkage::default();
        let outcome = linkage.merge_all(&mut square, &mut || Err(Error::Interrupted));
        assert!(matches!(outcome, Err(Error::Interrupted)));
        assert!(square.live() > 1);
    }
}
