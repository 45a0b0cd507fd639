//! MaxSim: for each query row the best document row, summed.
//!
//! The tokens of all queries are packed as the columns of one product (`kernels`); each document runs past them once, and
//! of its rows' products with a column only the largest is ever held.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::kernels::{Cpu, Panels, Simd};
use crate::matrices::{Matrices, MatrixView};
use crate::memory;
use crate::queue::{self, GoOn, Observer};

/// Rows of a job: enough to be worth a thread's start, few enough for all threads to end together.
const JOB_ROWS: Range<usize> = 1024..4096;

/// Multiplications of a job: a few milliseconds, after which an observer is asked.
const JOB_WORK: usize = 1 << 28;

/// The fewest rows of a job.
const FEWEST_ROWS: usize = 48;

/// Rows of half precision that are widened at once, and stay in the cache: two tiles of most processors.
const BLOCK_ROWS: usize = 24;

/// Columns of one product: a megabyte of rows of 128.
const MOST_COLUMNS: usize = 2048;

/// The score of every document against one query, a matrix of rows of the documents' `dim`.
///
/// Rows are used as they are; give unit rows for cosines. Sums are those of float32, each in the order of the
/// row: neither threads nor neighbours change a bit of a score.
///
/// # Errors
/// [`Error::Shape`] if a matrix has no rows or rows of another length, [`Error::Argument`] if a value is NaN or
/// infinite; both name the matrix.
///
/// ```
/// use chandelier::{maxsim, MultiVectors};
/// let documents = MultiVectors::new(vec![1.0, 0.0, 0.6, 0.8, 0.0, -1.0], vec![0, 2, 3], 2)?;
/// assert_eq!(maxsim(&[1.0, 0.0, 0.0, 1.0], &documents)?, [1.8, -1.0]);
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn maxsim<'a>(query: &[f32], documents: impl Into<Matrices<'a>>) -> Result<Vec<f32>> {
    maxsim_with(query, &documents.into(), Cpu::detect()?, &mut |_| Ok(()))
}

/// The same on so many threads, under the eyes of an observer, who is told how many documents are done.
///
/// # Errors
/// As [`maxsim()`], and whatever the observer returns.
pub fn maxsim_with(query: &[f32], documents: &Matrices, cpu: Cpu, observer: Observer) -> Result<Vec<f32>> {
    let scores = Mutex::new(vec![0.0; documents.len()]);
    let keep = |first: usize, found: &[f32]| lock(&scores)[first..][..found.len()].copy_from_slice(found);
    let queries = Matrices::new(vec![MatrixView::Float32(query)], documents.dim());
    let queries = queries.map_err(|_| wrong_rows("query", query.len(), documents.dim()))?;
    score(&Queries::pack("query", &queries, 0..1, cpu)?, documents, cpu, observer, keep)?;
    Ok(into_inner(scores))
}

/// The scores `[queries, documents]`, row after row; see [`maxsim()`]. The observer is told how many documents are done.
///
/// # Errors
/// As [`maxsim()`], and whatever the observer returns.
pub fn maxsim_matrix(
    queries: &Matrices,
    documents: &Matrices,
    cpu: Cpu,
    observer: Observer,
) -> Result<Vec<f32>> {
    same_dim(queries, documents)?;
    let count = documents.len();
    let size = queries.len().saturating_mul(count);
    let scores = Mutex::new(memory::try_zeros(size).ok_or_else(|| {
        let got = format!("{} for {count} documents, whose scores do not fit into memory", queries.len());
        Error::argument("queries", got, "fewer at a time, or top_k")
    })?);
    let mut start = 0;
    while start < queries.len() {
        let packed = Queries::pack("queries", queries, start..group_end(queries, start), cpu)?;
        let keep = |first: usize, found: &[f32]| {
            let mut scores = lock(&scores);
            for (document, found) in found.chunks_exact(packed.len()).enumerate() {
                for (query, score) in found.iter().enumerate() {
                    scores[(start + query) * count + first + document] = *score;
                }
            }
        };
        score(&packed, documents, cpu, observer, keep)?;
        start += packed.len();
    }
    Ok(into_inner(scores))
}

/// Where the queries end that are packed together with the one at `start`.
fn group_end(queries: &Matrices, start: usize) -> usize {
    let mut columns = 0;
    let fits = |query: &usize| {
        columns += queries.rows(*query);
        columns <= MOST_COLUMNS
    };
    start + (start..queries.len()).take_while(fits).count().max(1)
}

/// The `k` best documents and their scores, best first, ties in document order; only `k` scores and those of the
/// jobs under way are held. The observer is told how many documents are done.
///
/// # Errors
/// As [`maxsim()`], and whatever the observer returns.
pub fn top_k(
    query: &[f32],
    documents: &Matrices,
    k: usize,
    cpu: Cpu,
    observer: Observer,
) -> Result<Vec<(usize, f32)>> {
    let queries = Matrices::new(vec![MatrixView::Float32(query)], documents.dim());
    let queries = queries.map_err(|_| wrong_rows("query", query.len(), documents.dim()))?;
    let queries = Queries::pack("query", &queries, 0..1, cpu)?;
    Ok(best_of(&queries, documents, k, cpu, observer)?.pop().unwrap_or_default())
}

/// The same for every query, with one pass over the documents for many of them.
///
/// # Errors
/// As [`top_k`].
pub fn top_k_each(
    queries: &Matrices,
    documents: &Matrices,
    k: usize,
    cpu: Cpu,
    observer: Observer,
) -> Result<Vec<Vec<(usize, f32)>>> {
    same_dim(queries, documents)?;
    let mut best = Vec::with_capacity(queries.len());
    while best.len() < queries.len() {
        let group = best.len()..group_end(queries, best.len());
        let packed = Queries::pack("queries", queries, group, cpu)?;
        best.extend(best_of(&packed, documents, k, cpu, &mut *observer)?);
    }
    Ok(best)
}

fn best_of(
    queries: &Queries,
    documents: &Matrices,
    k: usize,
    cpu: Cpu,
    observer: Observer,
) -> Result<Vec<Vec<(usize, f32)>>> {
    let none = || BinaryHeap::with_capacity(k.min(documents.len()) + 1);
    let best = Mutex::new((0..queries.len()).map(|_| none()).collect::<Vec<_>>());
    let keep = |first: usize, found: &[f32]| {
        let mut best = lock(&best);
        for (document, scores) in found.chunks_exact(queries.len()).enumerate() {
            for (best, score) in best.iter_mut().zip(scores) {
                // The heap's top is the worst of the best: the lowest score, and of equal ones the latest document.
                // Adding 0 makes -0 equal to 0.
                best.push(Reverse((Ordered(score + 0.0), Reverse(first + document))));
                if best.len() > k {
                    best.pop();
                }
            }
        }
    };
    score(queries, documents, cpu, observer, keep)?;
    let sorted = |best: BinaryHeap<Reverse<(Ordered, Reverse<usize>)>>| {
        let sorted = best.into_sorted_vec().into_iter();
        sorted.map(|Reverse((score, Reverse(index)))| (documents.original(index), score.0)).collect()
    };
    Ok(into_inner(best).into_iter().map(sorted).collect())
}

fn same_dim(queries: &Matrices, documents: &Matrices) -> Result<()> {
    if queries.dim() == documents.dim() {
        return Ok(());
    }
    let got = format!("{} for queries and {} for documents", queries.dim(), documents.dim());
    Err(Error::shape("dim", got, "the same for both"))
}

/// Queries as the columns of a product.
struct Queries {
    panels: Panels,
    simd: Simd,
    /// Where each query's columns end.
    ends: Vec<usize>,
}

impl Queries {
    fn pack(name: &str, queries: &Matrices, range: Range<usize>, cpu: Cpu) -> Result<Self> {
        let mut rows = Vec::new();
        let mut ends = Vec::with_capacity(range.len());
        for index in range {
            check(name, queries, index)?;
            rows.extend_from_slice(queries.get(index).widened(cpu.simd, &mut Vec::new()));
            ends.push(rows.len() / queries.dim());
        }
        Ok(Self { panels: Panels::pack(cpu.simd, &rows, queries.dim()), simd: cpu.simd, ends })
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Each query's score: the sum over its columns.
    fn scores(&self, best: &[f32]) -> impl Iterator<Item = f32> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let sum = |columns: &[f32]| columns.iter().copied().map(f64::from).sum::<f64>() as f32;
        starts.zip(&self.ends).map(move |(start, end)| sum(&best[start..*end]))
    }
}

/// What one thread does at a time: some documents whole, or some rows of a long one.
struct Job {
    documents: Range<usize>,
    cut: Option<Cut>,
}

struct Cut {
    rows: Range<usize>,
    /// Which of the [`Pieces`].
    pieces: usize,
}

/// The pieces of a long document that are not done, and each column's best of those that are.
struct Pieces {
    left: usize,
    best: Vec<f32>,
}

/// Hands every document's scores, one a query, to `keep`: those of some neighbours at a time, beginning with the first
/// of them.
fn score(
    queries: &Queries,
    documents: &Matrices,
    cpu: Cpu,
    observer: Observer,
    keep: impl Fn(usize, &[f32]) + Sync,
) -> Result<()> {
    let dim = documents.dim();
    if let Some(index) = (0..documents.len()).find(|index| documents.rows(*index) == 0) {
        return check("documents", documents, index);
    }
    let (jobs, pieces) = plan(documents, queries.panels.stride(), cpu.threads);
    let work = |Job { documents: range, cut }: Job| -> Result<usize> {
        let mut scores = Vec::with_capacity(range.len() * queries.len());
        let mut best = vec![0.0; queries.panels.stride()];
        let mut scratch = Vec::new();
        for index in range.clone() {
            let mut matrix = documents.get(index);
            if let Some(Cut { rows, .. }) = &cut {
                matrix = matrix.slice(rows.start * dim..rows.end * dim);
            }
            best.fill(f32::NEG_INFINITY);
            if !maxima(queries, matrix, dim, &mut best, &mut scratch) {
                check("documents", documents, index)?;
                return Err(overflow(documents.original(index)));
            }
            if let Some(cut) = &cut
                && !lock(&pieces[cut.pieces]).join(&mut best)
            {
                return Ok(0);
            }
            scores.extend(queries.scores(&best));
        }
        if let Some(place) = scores.iter().position(|score| !score.is_finite()) {
            return Err(overflow(documents.original(range.start + place / queries.len())));
        }
        keep(range.start, &scores);
        Ok(range.len())
    };
    queue::run(jobs, cpu.threads, || |job, _: GoOn| work(job), observer)
}

/// Cuts the work by tokens, not by documents: a long document becomes several jobs.
fn plan(documents: &Matrices, columns: usize, threads: usize) -> (Vec<Job>, Vec<Mutex<Pieces>>) {
    let total: usize = (0..documents.len()).map(|index| documents.rows(index)).sum();
    let fair = (total / threads.max(1).saturating_mul(4)).clamp(JOB_ROWS.start, JOB_ROWS.end);
    let most = fair.min(JOB_WORK / (columns * documents.dim()).max(1)).max(FEWEST_ROWS);
    let (mut jobs, mut pieces) = (Vec::new(), Vec::new());
    let (mut start, mut rows) = (0, 0);
    for index in 0..documents.len() {
        let count = documents.rows(index);
        if rows + count > most && start < index {
            jobs.push(Job { documents: start..index, cut: None });
            (start, rows) = (index, 0);
        }
        if count > most {
            let cuts = (0..count).step_by(most).map(|row| row..count.min(row + most));
            let cuts = cuts.map(|rows| Some(Cut { rows, pieces: pieces.len() }));
            jobs.extend(cuts.map(|cut| Job { documents: index..index + 1, cut }));
            pieces.push(Mutex::new(Pieces { left: count.div_ceil(most), best: Vec::new() }));
            start = index + 1;
        } else {
            rows += count;
        }
    }
    if start < documents.len() {
        jobs.push(Job { documents: start..documents.len(), cut: None });
    }
    (jobs, pieces)
}

impl Pieces {
    /// Puts what one piece found together with what the others did. True for the last one.
    fn join(&mut self, best: &mut [f32]) -> bool {
        best.iter_mut().zip(&self.best).for_each(|(most, x)| *most = most.max(*x));
        self.best = best.to_vec();
        self.left -= 1;
        self.left == 0
    }
}

/// Half precision is widened block by block, in the cache.
fn maxima(
    queries: &Queries,
    matrix: MatrixView,
    dim: usize,
    best: &mut [f32],
    scratch: &mut Vec<f32>,
) -> bool {
    match matrix {
        MatrixView::Float32(rows) => queries.panels.maxima(rows, best),
        MatrixView::Float16(_) => (0..matrix.len()).step_by(BLOCK_ROWS * dim).all(|start| {
            let block = matrix.slice(start..matrix.len().min(start + BLOCK_ROWS * dim));
            queries.panels.maxima(block.widened(queries.simd, scratch), best)
        }),
    }
}

/// Refuses matrix `index` if it has no rows or a value that is not finite.
pub(crate) fn check(name: &str, matrices: &Matrices, index: usize) -> Result<()> {
    let (matrix, dim, index) = (matrices.get(index), matrices.dim(), matrices.original(index));
    if matrix.len() == 0 {
        let place = if name == "query" { name.to_owned() } else { format!("{name}[{index}]") };
        return Err(wrong_rows(&place, 0, dim));
    }
    match matrix.not_finite() {
        None => Ok(()),
        Some((at, value)) => {
            let got = format!("{value} at [{index}], row {}, column {}", at / dim, at % dim);
            Err(Error::argument(name, got, "finite values"))
        }
    }
}

fn wrong_rows(place: &str, values: usize, dim: usize) -> Error {
    let got = if values == 0 { "no tokens".to_owned() } else { format!("{values} values") };
    Error::shape(place, got, format!("one or more rows of {dim}"))
}

fn overflow(index: usize) -> Error {
    let got = format!("values whose products overflow at [{index}]");
    Error::argument("documents", got, "values of moderate size, unit rows say")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Finite scores in their natural order.
#[derive(PartialEq)]
pub(crate) struct Ordered(pub(crate) f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
