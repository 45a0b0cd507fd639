//! How good candidates are: the share of the best documents that is among them, and how far to trust the number.

use std::collections::HashSet;
use std::hash::Hash;

use crate::error::{Error, Result};
use crate::kernels::Cpu;
use crate::ops::{Matrix, matmul};
use crate::queue::{self, GoOn, Observer};

/// Queries that a thread takes at a time.
const JOB: usize = 16;

/// Vectors whose products are held at a time.
const BLOCK: usize = 256;

/// Inner products and whose they are, the largest first.
type Found = Vec<(f32, usize)>;

/// For every query the vectors with the largest inner products, best first, ties in order. Vectors come in as many
/// portions as the caller likes, and only `depth` are kept for each query.
pub struct Candidates {
    depth: usize,
    seen: usize,
    found: Vec<Found>,
}

/// A mean share with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The mean.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Candidates {
    /// None yet.
    pub fn new(queries: usize, depth: usize) -> Self {
        Self { depth, seen: 0, found: vec![Vec::new(); queries] }
    }

    /// Looks through further vectors, of `size` values each as the queries. They are numbered on from those before.
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes do not fit together, [`Error::Argument`] if an inner product is not finite, and
    /// whatever the observer returns, who is told how many queries are done.
    ///
    /// ```
    /// use chandelier::{Candidates, Cpu};
    /// let cpu = Cpu::detect()?;
    /// let mut candidates = Candidates::new(1, 2);
    /// candidates.add(&[1.0, 0.0], &[0.0, 1.0, 0.5, 0.5], 2, cpu, &mut |_| Ok(()))?;
    /// candidates.add(&[1.0, 0.0], &[0.5, 0.0, 1.0, 0.0], 2, cpu, &mut |_| Ok(()))?;
    /// assert_eq!(candidates.of(0).collect::<Vec<_>>(), [3, 1]);
    /// # Ok::<(), chandelier::Error>(())
    /// ```
    pub fn add(
        &mut self,
        queries: &[f32],
        vectors: &[f32],
        size: usize,
        cpu: Cpu,
        observer: Observer,
    ) -> Result<()> {
        if size == 0 || self.found.len().checked_mul(size) != Some(queries.len()) {
            let wanted = format!("{} vectors of {size}, at least 1", self.found.len());
            return Err(Error::shape("queries", format!("{} values", queries.len()), wanted));
        }
        if !vectors.len().is_multiple_of(size) {
            let wanted = format!("whole vectors of {size}");
            return Err(Error::shape("vectors", format!("{} values", vectors.len()), wanted));
        }
        let (depth, seen) = (self.depth, self.seen);
        let work = |(queries, found): (&[f32], &mut [Found])| {
            let height = found.len();
            let mut products = vec![0.0; height * BLOCK];
            for (block, vectors) in vectors.chunks(BLOCK * size).enumerate() {
                let width = vectors.len() / size;
                let (a, b) = (Matrix::rows(queries, size), Matrix::rows(vectors, size).transposed());
                matmul((height, size, width), a, b, (&mut products, width), 1.0);
                for (found, products) in found.iter_mut().zip(products.chunks_exact(width)) {
                    for (index, product) in products.iter().enumerate() {
                        keep(found, depth, *product, seen + block * BLOCK + index)?;
                    }
                }
            }
            Ok(height)
        };
        let jobs = queries.chunks(JOB * size).zip(self.found.chunks_mut(JOB)).collect();
        queue::run(jobs, cpu.threads, || |job, _: GoOn| work(job), observer)?;
        self.seen += vectors.len() / size;
        Ok(())
    }

    /// The numbers of the vectors found for a query, best first.
    ///
    /// # Panics
    /// If there is no such query.
    pub fn of(&self, query: usize) -> impl Iterator<Item = usize> {
        self.found[query].iter().map(|(_, index)| *index)
    }

    /// The share of `wanted` (for each query the numbers of the vectors that should be found, no number twice) that
    /// is among the first `depth` candidates, averaged over the queries.
    ///
    /// The interval is Wilson's, with one trial a query: queries are independent of each other, the documents wanted for
    /// one of them are not, and no share between 0 and 1 varies more than one that is either. So it is rather too
    /// wide than too narrow, and never empty where nothing or everything was found.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no query, or none is wanted for one, or as many as there are queries are not given.
    pub fn recall(&self, wanted: &[Vec<usize>], depth: usize) -> Result<Share> {
        let found: Vec<Vec<usize>> =
            (0..self.found.len()).map(|query| self.of(query).take(depth).collect()).collect();
        share_found(&found, wanted)
    }
}

/// The share of what is wanted for each query that was found for it, averaged over the queries, with the interval of
/// [`Candidates::recall`]. What is named twice counts once.
///
/// # Errors
/// [`Error::Shape`] if there is no query, none is wanted for one, or the two are not for as many queries.
///
/// ```
/// let share = chandelier::share_found(&[vec!["a", "b"]], &[vec!["b", "c"]])?;
/// assert_eq!(share.mean, 0.5);
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn share_found<T: Eq + Hash>(found: &[Vec<T>], wanted: &[Vec<T>]) -> Result<Share> {
    if wanted.is_empty() || wanted.len() != found.len() || wanted.iter().any(Vec::is_empty) {
        let want = format!("one or more for each of {} queries, at least 1", found.len());
        return Err(Error::shape("wanted", format!("for {} queries", wanted.len()), want));
    }
    let share = |(found, wanted): (&Vec<T>, &Vec<T>)| {
        let (found, wanted): (HashSet<&T>, HashSet<&T>) = (found.iter().collect(), wanted.iter().collect());
        wanted.intersection(&found).count() as f64 / wanted.len() as f64
    };
    let sum: f64 = found.iter().zip(wanted).map(share).sum();
    Ok(wilson(sum / wanted.len() as f64, wanted.len() as f64))
}

/// Puts a product into its place among the best; an equal one that came before stays before it.
fn keep(found: &mut Found, depth: usize, product: f32, index: usize) -> Result<()> {
    if !product.is_finite() {
        let got = format!("vectors whose inner product with vector {index} is {product}");
        return Err(Error::argument("encoders", got, "finite values of moderate size"));
    }
    if found.len() == depth && found.last().is_none_or(|(worst, _)| product <= *worst) {
        return Ok(());
    }
    found.truncate(depth - 1);
    found.insert(found.partition_point(|(better, _)| *better >= product), (product, index));
    Ok(())
}

/// Wilson's score interval (1927) for a share seen in so many trials.
fn wilson(mean: f64, trials: f64) -> Share {
    /// 95 % of a normal distribution lie within so many standard deviations.
    const Z: f64 = 1.959_963_984_540_054;
    let shrink = 1.0 / (1.0 + Z * Z / trials);
    let centre = (mean + Z * Z / (2.0 * trials)) * shrink;
    let reach = Z * shrink * (mean * (1.0 - mean) / trials + (Z / (2.0 * trials)).powi(2)).max(0.0).sqrt();
    Share { mean, low: (centre - reach).clamp(0.0, mean), high: (centre + reach).clamp(mean, 1.0) }
}
