//! Token pooling: similar rows of a document become their mean, for a smaller index.
//!
//! The steps are those of PyLate (>= 1.5) and sentence-transformers 6, down to the order of the rows: Ward linkage over
//! cosine distances, then the clusters of scipy's `fcluster(..., criterion="maxclust")` (>= 1.15) in its numbering.

use crate::error::{Error, Result};
use crate::multivectors::{MultiVectors, MultiVectorsView};
use crate::queue::{self, Observer};

/// How [`pool_tokens`] pools.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pooling {
    /// One row is kept of about this many; a fraction will do. Nothing is pooled unless it is more than 1.
    pub factor: f64,
    /// So many rows at the start, \[CLS\] say, are kept as they are.
    pub protected: usize,
    /// Whether all rows, protected ones too, get length 1 in the end, as in sentence-transformers 6; PyLate leaves
    /// means as they are.
    pub normalize: bool,
}

impl Default for Pooling {
    /// PyLate's defaults: no pooling, one protected row, no normalisation.
    fn default() -> Self {
        Self { factor: 1.0, protected: 1, normalize: false }
    }
}

/// Every document pooled: its protected rows, then the means of its clusters: at most `n / factor` of the other `n`
/// rows, but at least 1.
///
/// Rows should have length 1. Time and memory grow with the square of a document's `n`: 4 `n`² bytes.
///
/// # Errors
/// [`Error::Argument`] for a factor below 1 or a value that is not finite, and whatever the observer returns.
///
/// ```
/// use chandelier::{MultiVectors, Pooling, pool_tokens};
/// let rows = vec![1.0, 0.0, 0.6, 0.8, 0.0, -1.0, 0.8, 0.6];
/// let documents = MultiVectors::new(rows, vec![0, 4], 2)?;
/// let pooled = pool_tokens(documents.view(), &Pooling { factor: 1.5, ..Pooling::default() }, 1, &mut |_| Ok(()))?;
/// let means = [1.0, 0.0, 0.7, 0.7, 0.0, -1.0];
/// assert!(pooled.data().iter().zip(means).all(|(x, mean)| (x - mean).abs() < 1e-6));
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn pool_tokens(
    documents: MultiVectorsView,
    options: &Pooling,
    threads: usize,
    observer: Observer,
) -> Result<MultiVectors> {
    if !(options.factor >= 1.0 && options.factor.is_finite()) {
        return Err(Error::argument("pool_factor", options.factor, "a finite number of at least 1"));
    }
    if let Some(index) = documents.iter().position(|rows| rows.iter().any(|x| !x.is_finite())) {
        return Err(Error::argument(
            &format!("documents[{index}]"),
            "a value that is not finite",
            "finite numbers",
        ));
    }
    let dim = documents.dim();
    let mut pooled = vec![Vec::new(); documents.len()];
    let work = |(rows, pooled): (&[f32], &mut Vec<f32>)| {
        *pooled = pool_one(rows, dim, options)?;
        Ok(1)
    };
    queue::run(documents.iter().zip(&mut pooled).collect(), threads, work, observer)?;
    let ends = pooled.iter().scan(0, |end, rows| {
        *end += rows.len() / dim;
        Some(*end)
    });
    let offsets = std::iter::once(0).chain(ends).collect();
    MultiVectors::new(pooled.concat(), offsets, dim)
}

fn pool_one(rows: &[f32], dim: usize, options: &Pooling) -> Result<Vec<f32>> {
    let (protected, others) = rows.split_at(options.protected.saturating_mul(dim).min(rows.len()));
    let n = others.len() / dim;
    let clusters = number_of_clusters(n, options.factor);
    let mut pooled = protected.to_vec();
    if clusters < n {
        let merges = relabel(chain(Distances::between(others, dim)?));
        let labels = number(&merges, cut(&merges, clusters));
        pooled.extend(means(others, dim, &labels));
    } else {
        pooled.extend(others);
    }
    if options.normalize {
        pooled.chunks_exact_mut(dim).for_each(normalize);
    }
    Ok(pooled)
}

/// Python's `max(int(n // factor), 1)`: the floor of the exact quotient, where `(n / factor).floor()` would see it
/// rounded up at times (21 / 1.05).
fn number_of_clusters(n: usize, factor: f64) -> usize {
    if factor > 1.0 {
        let whole = n as f64;
        (((whole - whole % factor) / factor).round() as usize).max(1)
    } else {
        n
    }
}

/// The distance of every pair, the upper triangle of a matrix row after row. None is negative, infinite or NaN.
struct Distances {
    n: usize,
    values: Vec<f64>,
}

impl Distances {
    /// `1 - x.y` in float32. Rounding must not make it negative, and what cannot be compared is far apart.
    fn between(rows: &[f32], dim: usize) -> Result<Self> {
        let rows: Vec<_> = rows.chunks_exact(dim).collect();
        let pairs = rows.len() * rows.len().saturating_sub(1) / 2;
        let mut values = Vec::new();
        values.try_reserve_exact(pairs).map_err(|_| {
            let bytes = pairs * size_of::<f64>();
            let wanted = format!("fewer: their distances take {bytes} bytes, more memory than there is");
            Error::argument("documents", format!("one of {} rows", rows.len()), wanted)
        })?;
        for (i, x) in rows.iter().enumerate() {
            values.extend(rows[i + 1..].iter().map(|y| {
                let distance = 1.0 - dot(x, y);
                f64::from(if distance <= 2.0 { distance.max(0.0) } else { 2.0 })
            }));
        }
        Ok(Self { n: rows.len(), values })
    }

    /// Where the distance of two different rows stands.
    fn index(&self, i: usize, j: usize) -> usize {
        let (i, j) = (i.min(j), i.max(j));
        i * (2 * self.n - i - 1) / 2 + j - i - 1
    }

    fn get(&self, i: usize, j: usize) -> f64 {
        self.values[self.index(i, j)]
    }
}

/// In 8 lanes, so that it may fill the registers.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_tail), (y, y_tail)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut lanes = [0.0f32; 8];
    for (x, y) in x.iter().zip(y) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(lane, (x, y))| *lane += x * y);
    }
    let tail: f32 = x_tail.iter().zip(y_tail).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + tail
}

/// Two clusters become one: each is named by one of its rows at first, by its node in the tree after [`relabel`].
struct Merge {
    left: usize,
    right: usize,
    height: f64,
}

/// Ward linkage by chains of nearest neighbours, in the order in which they are found.
fn chain(mut distances: Distances) -> Vec<Merge> {
    let mut sizes = vec![1.0; distances.n];
    let mut live: Vec<_> = (0..distances.n).collect();
    let mut chain = Vec::new();
    let mut merges = Vec::with_capacity(distances.n - 1);
    while live.len() > 1 {
        let merge = nearest_pair(&distances, &live, &mut chain);
        live.retain(|&i| i != merge.left);
        update(&mut distances, &merge, &sizes, &live);
        sizes[merge.right] += sizes[merge.left];
        // Only where rounding makes ties run in a circle can the name that is gone stand further down as well.
        chain.truncate(chain.iter().take_while(|i| **i != merge.left).count());
        merges.push(merge);
    }
    merges
}

/// Follows the chain to two clusters that are each other's nearest, and takes them off. Of equally near ones the
/// previous link comes first, then the lowest; without the former a chain of ties would never end.
fn nearest_pair(distances: &Distances, live: &[usize], chain: &mut Vec<usize>) -> Merge {
    let mut top = chain.pop().unwrap_or(live[0]);
    loop {
        let previous = chain.pop();
        let (mut nearest, mut height) = match previous {
            Some(previous) => (previous, distances.get(previous, top)),
            None => (top, f64::INFINITY),
        };
        for &i in live.iter().filter(|&&i| i != top) {
            let distance = distances.get(i, top);
            if distance < height {
                (nearest, height) = (i, distance);
            }
        }
        if previous == Some(nearest) {
            return Merge { left: nearest.min(top), right: nearest.max(top), height };
        }
        chain.extend(previous);
        chain.push(top);
        top = nearest;
    }
}

/// Ward's distances from the merged cluster, which keeps the name of `right`, to the others.
fn update(distances: &mut Distances, merge: &Merge, sizes: &[f64], live: &[usize]) {
    let (a, b, height) = (merge.left, merge.right, merge.height);
    for &i in live.iter().filter(|&&i| i != b) {
        let (to_a, to_b, place) = (distances.get(i, a), distances.get(i, b), distances.index(i, b));
        let t = 1.0 / (sizes[a] + sizes[b] + sizes[i]);
        let square = (sizes[i] + sizes[a]) * t * to_a * to_a + (sizes[i] + sizes[b]) * t * to_b * to_b
            - sizes[i] * t * height * height;
        distances.values[place] = square.max(0.0).sqrt();
    }
}

/// Sorts the merges by height and names their sides: the rows are `0..n`, and merge `k` makes node `n + k`. The last
/// one makes the root.
fn relabel(mut merges: Vec<Merge>) -> Vec<Merge> {
    merges.sort_by(|a, b| a.height.total_cmp(&b.height));
    let n = merges.len() + 1;
    let mut parents: Vec<_> = (0..n + merges.len()).collect();
    for (k, merge) in merges.iter_mut().enumerate() {
        let (a, b) = (root(&mut parents, merge.left), root(&mut parents, merge.right));
        (merge.left, merge.right) = (a.min(b), a.max(b));
        (parents[a], parents[b]) = (n + k, n + k);
    }
    merges
}

/// The node above all others over `node`, with shortcuts for the next time.
fn root(parents: &mut [usize], mut node: usize) -> usize {
    while parents[node] != node {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    node
}

/// The height up to which merges happen: each takes away one cluster, and those of equal height go together, so that
/// fewer than `clusters` may be left.
fn cut(merges: &[Merge], clusters: usize) -> f64 {
    merges[merges.len() - clusters].height
}

/// Each row's cluster, counted from 1 as scipy does: depth first from the root, and at each node the inner sides before
/// the single rows.
fn number(merges: &[Merge], cutoff: f64) -> Vec<usize> {
    let n = merges.len() + 1;
    let (mut labels, mut count) = (vec![0; n], 0);
    // Nodes, and the clusters that they are in; 0 above the cut.
    let mut stack = vec![(n + merges.len() - 1, 0)];
    while let Some((node, mut label)) = stack.pop() {
        let merge = node.checked_sub(n).map(|k| &merges[k]);
        if label == 0 && merge.is_none_or(|merge| merge.height <= cutoff) {
            count += 1;
            label = count;
        }
        if let Some(merge) = merge {
            let mut sides = [merge.right, merge.left];
            sides.sort_by_key(|side| *side >= n);
            stack.extend(sides.map(|side| (side, label)));
        } else {
            labels[node] = label;
        }
    }
    labels
}

/// The mean of each cluster's rows, sums in float32 and in the order of the rows.
fn means(rows: &[f32], dim: usize, labels: &[usize]) -> Vec<f32> {
    let clusters = labels.iter().copied().max().unwrap_or(0);
    let mut means = vec![0.0; clusters * dim];
    let mut counts = vec![0.0f32; clusters];
    for (row, &label) in rows.chunks_exact(dim).zip(labels) {
        counts[label - 1] += 1.0;
        means[(label - 1) * dim..][..dim].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    for (mean, count) in means.chunks_exact_mut(dim).zip(counts) {
        mean.iter_mut().for_each(|x| *x /= count);
    }
    means
}

fn normalize(row: &mut [f32]) {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|x| *x /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(rows: &[f32], factor: f64) -> Vec<f32> {
        pool_one(rows, 2, &Pooling { factor, ..Pooling::default() }).expect("there is memory")
    }

    #[test]
    fn quotients_are_pythons() {
        let got = [(21, 1.05), (7, 2.0), (1, 3.0), (9, 1.0), (9, f64::NAN), (9, 0.5), (9, f64::INFINITY)]
            .map(|(n, factor)| number_of_clusters(n, factor));
        assert_eq!(got, [19, 3, 1, 9, 9, 9, 1]);
    }

    #[test]
    fn clusters_are_numbered_as_scipy_does() {
        // linkage([.5, .1, .9, .9, .8, .2, .9, .9, .9, .7], "ward") and its fcluster(..., t, "maxclust").
        let values = vec![0.5, 0.1, 0.9, 0.9, 0.8, 0.2, 0.9, 0.9, 0.9, 0.7];
        let merges = relabel(chain(Distances { n: 5, values }));
        let labels = [1, 2, 3, 4].map(|clusters| number(&merges, cut(&merges, clusters)));
        assert_eq!(labels, [[1, 1, 1, 1, 1], [1, 2, 1, 2, 2], [1, 2, 1, 2, 3], [1, 2, 1, 3, 4]]);
    }

    #[test]
    fn a_factor_of_one_or_a_protected_document_stays_as_it_is() {
        let rows = [1.0, 0.0, 0.6, 0.8, 0.6, 0.8];
        assert_eq!(pool(&rows, 1.0), rows);
        let options = Pooling { factor: 9.0, protected: usize::MAX, normalize: false };
        assert_eq!(pool_one(&rows, 2, &options).expect("there is memory"), rows);
    }

    #[test]
    fn rows_of_any_floats_end_in_some_clusters() {
        let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 0.0, -1.0];
        for n in 0..60 {
            let rows: Vec<_> = (0..2 * n).map(|i| floats[(i * i + i / 3) % floats.len()]).collect();
            for factor in [1.1, 2.0, 30.0] {
                let pooled = pool(&rows, factor);
                let most = n.min(1) + number_of_clusters(n.saturating_sub(1), factor);
                assert!(pooled.len() <= 2 * most && (n == 0 || !pooled.is_empty()), "{n} rows by {factor}");
            }
        }
    }
}
