//! Token pooling: similar rows of a document become their mean, for a smaller index.
//!
//! The steps are those of PyLate (>= 1.5) and sentence-transformers 6, down to the order of the rows: Ward linkage over
//! cosine distances, then the clusters of scipy's `fcluster(..., criterion="maxclust")` (>= 1.15) in its numbering.

mod clusters;
mod linkage;
mod square;

use multiversion::multiversion;

use crate::error::{Error, Result};
use crate::kernels::{Cpu, Simd};
use crate::maxsim::check;
use crate::multivectors::{MultiVectors, MultiVectorsView, Slot};
use crate::queue::{self, GoOn, Observer};

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

impl Pooling {
    pub(crate) fn check(&self) -> Result<()> {
        if self.factor >= 1.0 && self.factor.is_finite() {
            return Ok(());
        }
        Err(Error::argument("pool_factor", self.factor, "a finite number of at least 1"))
    }

    /// The most rows that so many become; fewer where distances are tied.
    pub(crate) fn most_rows(&self, rows: usize) -> usize {
        let protected = self.protected.min(rows);
        protected + self.clusters(rows - protected).min(rows - protected)
    }

    /// Python's `max(int(n // factor), 1)`: the floor of the exact quotient, where `(n / factor).floor()` would see it
    /// rounded up at times (21 / 1.05).
    fn clusters(&self, n: usize) -> usize {
        if self.factor > 1.0 {
            let whole = n as f64;
            (((whole - whole % self.factor) / self.factor).round() as usize).max(1)
        } else {
            n
        }
    }
}

/// Every document pooled: its protected rows, then the means of its clusters: at most `n / factor` of the other `n`
/// rows, but at least 1.
///
/// Rows should have length 1. Time and memory grow with the square of a document's `n`: about 8 `n`² bytes for each
/// thread.
///
/// # Errors
/// [`Error::Argument`] for a factor below 1, a value that is not finite, or a document whose distances do not fit in
/// memory, and whatever the observer returns.
///
/// ```
/// use chandelier::{Cpu, MultiVectors, Pooling, pool_tokens};
/// let rows = vec![1.0, 0.0, 0.6, 0.8, 0.0, -1.0, 0.8, 0.6];
/// let documents = MultiVectors::new(rows, vec![0, 4], 2)?;
/// let pooled = pool_tokens(documents.view(), &Pooling { factor: 1.5, ..Pooling::default() }, Cpu::detect()?, &mut |_| Ok(()))?;
/// let means = [1.0, 0.0, 0.7, 0.7, 0.0, -1.0];
/// assert!(pooled.data().iter().zip(means).all(|(x, mean)| (x - mean).abs() < 1e-6));
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn pool_tokens(
    documents: MultiVectorsView,
    options: &Pooling,
    cpu: Cpu,
    observer: Observer,
) -> Result<MultiVectors> {
    options.check()?;
    let dim = documents.dim();
    if let Some(index) = documents.iter().position(|rows| !all_finite(rows)) {
        check("documents", &documents.into(), index)?;
    }
    let most: Vec<usize> = documents.iter().map(|rows| options.most_rows(rows.len() / dim)).collect();
    MultiVectors::filled(&most, dim, |slots| {
        let worker = || {
            let mut pooler = Pooler::new(cpu.simd);
            move |(index, slot): (usize, Slot), go_on: GoOn| {
                *slot.rows = pooler.pool(
                    ("documents", index),
                    documents.get(index),
                    dim,
                    options,
                    slot.data,
                    go_on,
                )?;
                Ok(1)
            }
        };
        queue::run(slots.into_iter().enumerate().collect(), cpu.threads, worker, observer)
    })
}

/// Pools one document after the other in the same memory.
pub(crate) struct Pooler {
    simd: Simd,
    square: square::Square,
    linkage: linkage::Linkage,
}

impl Pooler {
    pub(crate) fn new(simd: Simd) -> Self {
        Self { simd, square: square::Square::default(), linkage: linkage::Linkage::default() }
    }

    /// Pools `rows`, which an error blames by name and index, into `out`, which has room for [`Pooling::most_rows`];
    /// tells how many rows it became.
    pub(crate) fn pool(
        &mut self,
        (name, index): (&str, usize),
        rows: &[f32],
        dim: usize,
        options: &Pooling,
        out: &mut [f32],
        go_on: GoOn,
    ) -> Result<usize> {
        let (protected, others) = rows.split_at(options.protected.saturating_mul(dim).min(rows.len()));
        let n = others.len() / dim;
        let clusters = options.clusters(n);
        let (kept, pooled) = out.split_at_mut(protected.len());
        kept.copy_from_slice(protected);
        let mut count = n;
        if clusters < n {
            if !self.square.reserve(n) {
                let bytes = square::Square::bytes(n).map_or("too many".to_owned(), |bytes| bytes.to_string());
                let wanted = format!("fewer: their distances take {bytes} bytes, more memory than there is");
                return Err(Error::argument(
                    &format!("{name}[{index}]"),
                    format!("{n} rows to pool"),
                    wanted,
                ));
            }
            self.square.measure(self.simd, others, dim, go_on)?;
            let merges = self.linkage.merge_all(&mut self.square, go_on)?;
            count = means(others, dim, &clusters::cut(merges, clusters), pooled);
        } else {
            pooled.copy_from_slice(others);
        }
        if options.normalize {
            out[..protected.len() + count * dim].chunks_exact_mut(dim).for_each(normalize);
        }
        Ok(protected.len() / dim + count)
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, x| finite & (x.abs() < f32::INFINITY))
}

/// The mean of each cluster's rows, and how many there are: sums in float32 and in the order of the rows.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn means(rows: &[f32], dim: usize, labels: &[usize], means: &mut [f32]) -> usize {
    let count = labels.iter().copied().max().unwrap_or(0);
    let means = &mut means[..count * dim];
    means.fill(0.0);
    let mut sizes = vec![0.0f32; count];
    for (row, &label) in rows.chunks_exact(dim).zip(labels) {
        sizes[label - 1] += 1.0;
        means[(label - 1) * dim..][..dim].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    for (index, (mean, size)) in means.chunks_exact_mut(dim).zip(sizes).enumerate() {
        mean.iter_mut().for_each(|x| *x /= size);
        if !all_finite(mean) {
            let of_cluster = labels.iter().enumerate().filter(|(_, label)| **label == index + 1);
            wide_mean(of_cluster.map(|(row, _)| &rows[row * dim..][..dim]), mean);
        }
    }
    count
}

/// The mean of rows whose sum is too large for float32, which the mean itself never is.
fn wide_mean<'a>(rows: impl Iterator<Item = &'a [f32]>, mean: &mut [f32]) {
    let (mut sums, mut size) = (vec![0.0f64; mean.len()], 0.0);
    for row in rows {
        size += 1.0;
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean = (sum / size) as f32);
}

fn normalize(row: &mut [f32]) {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|x| *x /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_with(rows: &[f32], options: &Pooling) -> Vec<f32> {
        let mut out = vec![f32::NAN; 2 * options.most_rows(rows.len() / 2)];
        let mut pooler = Pooler::new(Simd::available()[0]);
        let count = pooler.pool(("documents", 0), rows, 2, options, &mut out, &mut || Ok(()));
        out.truncate(2 * count.expect("there is memory"));
        out
    }

    fn pool(rows: &[f32], factor: f64) -> Vec<f32> {
        pool_with(rows, &Pooling { factor, ..Pooling::default() })
    }

    #[test]
    fn quotients_are_pythons() {
        let got = [(21, 1.05), (7, 2.0), (1, 3.0), (9, 1.0), (9, f64::NAN), (9, 0.5), (9, f64::INFINITY)]
            .map(|(n, factor)| Pooling { factor, ..Pooling::default() }.clusters(n));
        assert_eq!(got, [19, 3, 1, 9, 9, 9, 1]);
    }

    #[test]
    fn a_factor_of_one_or_a_protected_document_stays_as_it_is() {
        let rows = [1.0, 0.0, 0.6, 0.8, 0.6, 0.8];
        assert_eq!(pool(&rows, 1.0), rows);
        assert_eq!(pool_with(&rows, &Pooling { factor: 9.0, protected: usize::MAX, normalize: false }), rows);
    }

    #[test]
    fn rows_of_any_floats_end_in_some_clusters() {
        let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 0.0, -1.0];
        for n in 0..200 {
            let rows: Vec<_> = (0..2 * n).map(|i| floats[(i * i + i / 3) % floats.len()]).collect();
            for factor in [1.1, 2.0, 30.0] {
                let pooled = pool(&rows, factor);
                let options = Pooling { factor, ..Pooling::default() };
                assert!(pooled.len() <= 2 * options.most_rows(n), "{n} rows by {factor}");
                assert!(n == 0 || !pooled.is_empty(), "{n} rows by {factor}");
            }
        }
    }

    #[test]
    fn a_mean_of_finite_rows_is_finite() {
        let large = [f32::MAX, -3e38, f32::MAX, -3e38, f32::MAX, -3e38, 1.0, 2.0];
        let options = Pooling { factor: 9.0, protected: 0, normalize: false };
        assert_eq!(pool_with(&large[..6], &options), [f32::MAX, -3e38]);
        let mean = pool_with(&large, &options);
        assert_eq!(mean, [(f64::from(f32::MAX) * 0.75 + 0.25) as f32, (-3e38f32 as f64 * 0.75 + 0.5) as f32]);
    }
}
