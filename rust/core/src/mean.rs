//! The normalised mean of a text's rows: the small single-vector stand-in for a matrix.

use crate::error::Result;
use crate::matrices::MatrixView;
use crate::maxsim::check;
use crate::multivectors::MultiVectorsView;

/// One unit vector of `dim` values a text, flat: the mean of its rows over the mean's length; zeros if the rows
/// cancel out.
///
/// # Errors
/// As [`crate::maxsim()`], for a text without rows or a value that is not finite.
///
/// ```
/// use chandelier::{mean_vectors, MultiVectors};
/// let texts = MultiVectors::new(vec![3.0, 0.0, 0.0, 4.0, 0.0, 2.0], vec![0, 2, 3], 2)?;
/// assert_eq!(mean_vectors(texts.view())?, [0.6, 0.8, 0.0, 1.0]);
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn mean_vectors(texts: MultiVectorsView) -> Result<Vec<f32>> {
    let dim = texts.dim();
    for (index, matrix) in texts.iter().enumerate() {
        check("texts", index, MatrixView::Float32(matrix), dim)?;
    }
    let mut vectors = vec![0.0; texts.len() * dim];
    let mut sums = vec![0.0; dim];
    for (vector, matrix) in vectors.chunks_exact_mut(dim).zip(texts.iter()) {
        // The sum points where the mean does, and only the direction is kept. float64 cannot overflow here.
        sums.fill(0.0);
        for row in matrix.chunks_exact(dim) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let length = sums.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().zip(&sums).for_each(|(x, sum)| *x = (sum / length) as f32);
        }
    }
    Ok(vectors)
}
