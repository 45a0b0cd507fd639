//! MaxSim: for each query row the best document row, summed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{Error, Result};
use crate::multivectors::MultiVectorsView;
use crate::ops::{Matrix, Store, matmul};
use crate::queue::{Observer, Ticker};

/// The score of every document against one query, a matrix of rows of the documents' `dim`.
///
/// Rows are used as they are; give unit rows for cosines.
///
/// # Errors
/// [`Error::Shape`] if a matrix has no rows or rows of another length, [`Error::Argument`] if a value is NaN or
/// infinite; both name the matrix.
///
/// ```
/// use chandelier::{maxsim, MultiVectors};
/// let documents = MultiVectors::new(vec![1.0, 0.0, 0.6, 0.8, 0.0, -1.0], vec![0, 2, 3], 2)?;
/// assert_eq!(maxsim(&[1.0, 0.0, 0.0, 1.0], documents.view())?, [1.8, -1.0]);
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn maxsim(query: &[f32], documents: MultiVectorsView) -> Result<Vec<f32>> {
    maxsim_observed(query, documents, &mut |_| Ok(()))
}

/// The same, under the eyes of an observer, who is told how many documents are done.
///
/// # Errors
/// As [`maxsim`], and whatever the observer returns.
pub fn maxsim_observed(query: &[f32], documents: MultiVectorsView, observer: Observer) -> Result<Vec<f32>> {
    check("query", [query].into_iter(), documents.dim())?;
    check("documents", documents.iter(), documents.dim())?;
    let mut ticker = Ticker::new(observer);
    scores(query, documents).enumerate().map(|(done, score)| ticker.remind(done).and(score)).collect()
}

/// The scores `[queries, documents]`, row after row; see [`maxsim`]. The observer is told how many scores are done.
///
/// # Errors
/// As [`maxsim`], and whatever the observer returns.
pub fn maxsim_matrix(
    queries: MultiVectorsView,
    documents: MultiVectorsView,
    observer: Observer,
) -> Result<Vec<f32>> {
    if queries.dim() != documents.dim() {
        let got = format!("{} for queries and {} for documents", queries.dim(), documents.dim());
        return Err(Error::shape("dim", got, "the same for both"));
    }
    check("queries", queries.iter(), queries.dim())?;
    check("documents", documents.iter(), documents.dim())?;
    let mut ticker = Ticker::new(observer);
    let all = queries.iter().flat_map(|query| scores(query, documents));
    all.enumerate().map(|(done, score)| ticker.remind(done).and(score)).collect()
}

/// The `k` best documents and their scores, best first, ties in document order; only `k` scores are held. The
/// observer is told how many documents are done.
///
/// # Errors
/// As [`maxsim`], and whatever the observer returns.
pub fn top_k(
    query: &[f32],
    documents: MultiVectorsView,
    k: usize,
    observer: Observer,
) -> Result<Vec<(usize, f32)>> {
    check("query", [query].into_iter(), documents.dim())?;
    check("documents", documents.iter(), documents.dim())?;
    let mut ticker = Ticker::new(observer);
    let mut best = BinaryHeap::with_capacity(k.min(documents.len()) + 1);
    for (index, score) in scores(query, documents).enumerate() {
        ticker.remind(index)?;
        // The heap's top is the worst of the best: the lowest score, and of equal ones the latest document. Adding
        // 0 makes -0 equal to 0.
        best.push(Reverse((Ordered(score? + 0.0), Reverse(index))));
        if best.len() > k {
            best.pop();
        }
    }
    Ok(best.into_sorted_vec().into_iter().map(|Reverse((score, Reverse(index)))| (index, score.0)).collect())
}

fn scores<'a>(query: &'a [f32], documents: MultiVectorsView<'a>) -> impl Iterator<Item = Result<f32>> + 'a {
    let dim = documents.dim();
    let rows = query.len() / dim;
    let mut similarities = Vec::new();
    let mut best = vec![0.0f32; rows];
    documents.iter().map(move |document| {
        let tokens = document.len() / dim;
        similarities.resize(tokens * rows, 0.0);
        let (a, b) = (Matrix::rows(document, dim), Matrix::rows(query, dim).transposed());
        matmul((tokens, dim, rows), a, b, (&mut similarities, rows), Store::Scaled(1.0));
        best.fill(f32::NEG_INFINITY);
        for row in similarities.chunks_exact(rows) {
            best.iter_mut().zip(row).for_each(|(best, s)| *best = best.max(*s));
        }
        let score: f32 = best.iter().sum();
        // `max` passes over NaN, which finite rows can give only by way of infinities.
        if similarities.iter().all(|s| s.is_finite()) && score.is_finite() {
            Ok(score)
        } else {
            Err(Error::argument(
                "documents",
                "values whose products overflow",
                "values of moderate size, unit rows say",
            ))
        }
    })
}

pub(crate) fn check<'a>(name: &str, matrices: impl Iterator<Item = &'a [f32]>, dim: usize) -> Result<()> {
    for (index, matrix) in matrices.enumerate() {
        if matrix.is_empty() || !matrix.len().is_multiple_of(dim) {
            let got =
                if matrix.is_empty() { "no tokens".to_owned() } else { format!("{} values", matrix.len()) };
            return Err(Error::shape(format!("{name}[{index}]"), got, format!("one or more rows of {dim}")));
        }
        if let Some(place) = matrix.iter().position(|x| !x.is_finite()) {
            let got = format!("{} at [{index}], row {}, column {}", matrix[place], place / dim, place % dim);
            return Err(Error::argument(name, got, "finite values"));
        }
    }
    Ok(())
}

/// Finite scores in their natural order.
#[derive(PartialEq)]
struct Ordered(f32);

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
