//! TWO MATRICES -> why they score as they do: which document row each query row chose, and what that is worth.

mod spans;
mod texts;

pub use spans::{WeightedSpan, readable_spans, weighted_spans};
pub use texts::{ExplainedText, TextExplanation};

use crate::error::{Error, Result};
use crate::kernels::{self, Panels};

/// What the MaxSim of one query and one document is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The sum of the best similarities: the MaxSim, before it is rounded to float32.
    pub score: f64,
    /// `[query rows, document rows]`, row after row.
    pub similarities: Vec<f32>,
    /// One a query row.
    pub matches: Vec<Match>,
}

/// The document row that a query row chose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// The first of the document's rows with the highest similarity.
    pub row: usize,
    /// That similarity.
    pub similarity: f32,
    /// The similarity divided by the score: shares sum to 1, and one whose sign is not that of the score is negative.
    /// If the score is 0, nothing has a share of it, and all are 0.
    pub share: f64,
}

/// Explains the score of a document against a query, two matrices of rows of length `dim`.
///
/// Rows are used as they are; give unit rows for cosines.
///
/// # Errors
/// [`Error::Shape`] if a matrix has no rows or rows of another length, [`Error::Argument`] if a value or a product of
/// two rows is NaN or infinite; both name the matrix.
///
/// ```
/// let explanation = chandelier::explain(&[1.0, 0.0, 0.0, 1.0], &[0.0, 0.25, 1.0, 0.0, 0.6, 0.75], 2)?;
/// assert_eq!(explanation.similarities, [0.0, 1.0, 0.6, 0.25, 0.0, 0.75]);
/// assert_eq!(explanation.matches.iter().map(|m| m.row).collect::<Vec<_>>(), [1, 2]);
/// assert_eq!(explanation.score, 1.75);
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn explain(query: &[f32], document: &[f32], dim: usize) -> Result<Explanation> {
    let query_rows = checked_rows("query", query, dim)?;
    let document_rows = checked_rows("document", document, dim)?;
    let panels = Panels::pack(kernels::selected()?.without_tiles(), document, dim);
    let mut products = vec![0.0; query_rows * panels.stride()];
    if !panels.products(query, &mut products) {
        let wanted = "values of moderate size, unit rows say";
        return Err(Error::argument("document", "values whose products overflow", wanted));
    }
    let rows = products.chunks_exact(panels.stride());
    let similarities: Vec<f32> = rows.flat_map(|row| &row[..panels.columns()]).copied().collect();
    let best: Vec<(usize, f32)> = similarities.chunks_exact(document_rows).map(first_maximum).collect();
    let score: f64 = best.iter().map(|&(_, similarity)| f64::from(similarity)).sum();
    let share = |similarity| if score == 0.0 { 0.0 } else { f64::from(similarity) / score };
    let matches =
        best.into_iter().map(|(row, similarity)| Match { row, similarity, share: share(similarity) });
    Ok(Explanation { score, matches: matches.collect(), similarities })
}

fn checked_rows(name: &str, matrix: &[f32], dim: usize) -> Result<usize> {
    if dim == 0 || matrix.is_empty() || !matrix.len().is_multiple_of(dim) {
        let got = if matrix.is_empty() { "no tokens".to_owned() } else { format!("{} values", matrix.len()) };
        return Err(Error::shape(name, got, format!("one or more rows of {dim}")));
    }
    match matrix.iter().position(|value| !value.is_finite()) {
        Some(place) => {
            let got = format!("{} at row {}, column {}", matrix[place], place / dim, place % dim);
            Err(Error::argument(name, got, "finite values"))
        }
        None => Ok(matrix.len() / dim),
    }
}

/// The first place of the highest of one or more finite values.
fn first_maximum(row: &[f32]) -> (usize, f32) {
    let first = (0, f32::NEG_INFINITY);
    row.iter().copied().enumerate().fold(first, |best, new| if new.1 > best.1 { new } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_never_nan() -> Result<()> {
        let shares = |query: &[f32]| -> Result<Vec<f64>> {
            Ok(explain(query, &[1.0], 1)?.matches.iter().map(|found| found.share).collect())
        };
        assert_eq!(shares(&[3.0, 1.0])?, [0.75, 0.25]);
        assert_eq!(shares(&[3.0, -1.0])?, [1.5, -0.5]);
        assert_eq!(shares(&[-3.0, -1.0])?, [0.75, 0.25]);
        assert_eq!(shares(&[1.0, -1.0])?, [0.0, 0.0]);
        assert_eq!(shares(&[0.0])?, [0.0]);
        assert!(shares(&[f32::MAX, f32::from_bits(1)])?.iter().all(|share| share.is_finite()));
        Ok(())
    }

    #[test]
    fn the_first_of_equal_rows_wins() -> Result<()> {
        let found = explain(&[1.0, 0.0], &[0.0, 1.0, 0.5, 3.0, 0.5, 0.0, -0.0, 2.0], 2)?;
        assert_eq!(found.matches[0].row, 1);
        let zeros = explain(&[1.0, 0.0], &[-0.0, 1.0, 0.0, 1.0], 2)?;
        assert_eq!(zeros.matches[0].row, 0);
        Ok(())
    }

    #[test]
    fn the_score_is_the_maxsim() -> Result<()> {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 37 + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
        };
        for (query_rows, document_rows, dim) in [(1, 1, 1), (5, 33, 7), (32, 70, 128)] {
            let (query, document) = (numbers(query_rows * dim, 3), numbers(document_rows * dim, 5));
            let found = explain(&query, &document, dim)?;
            let documents = crate::MultiVectors::new(document.clone(), vec![0, document_rows], dim)?;
            assert_eq!([found.score as f32], crate::maxsim(&query, &documents)?[..]);
            for (place, similarity) in found.similarities.iter().enumerate() {
                let rows = (&query[place / document_rows * dim..], &document[place % document_rows * dim..]);
                let exact: f64 =
                    rows.0.iter().zip(rows.1).take(dim).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                assert!((exact - f64::from(*similarity)).abs() < 1e-4);
            }
        }
        Ok(())
    }

    #[test]
    fn bad_matrices_are_refused_by_name() {
        let refusal = |query: &[f32], document: &[f32], dim| {
            explain(query, document, dim).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refusal(&[], &[1.0], 1), "query: got no tokens, wanted one or more rows of 1");
        assert_eq!(refusal(&[1.0, 2.0], &[1.0], 2), "document: got 1 values, wanted one or more rows of 2");
        assert_eq!(refusal(&[1.0], &[1.0], 0), "query: got 1 values, wanted one or more rows of 0");
        assert!(refusal(&[1.0], &[f32::NAN], 1).starts_with("document: got NaN at row 0, column 0"));
        assert!(refusal(&[f32::MAX], &[f32::MAX], 1).contains("overflow"));
    }
}
