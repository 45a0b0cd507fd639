//! The normalised mean of a text's rows: the small single-vector stand-in for a matrix.

use crate::error::Result;
use crate::kernels::Cpu;
use crate::matrices::Matrices;
use crate::queue::Observer;
use crate::single::one_each;

/// Rows that are added up between two questions whether to go on.
const BLOCK: usize = 4096;

/// One unit vector of `dim` values a text, flat: the mean of its rows over the mean's length; zeros if the rows
/// cancel out. The observer is told how many are done.
///
/// # Errors
/// As [`crate::maxsim()`], for a text without rows or a value that is not finite, and whatever the observer returns.
///
/// ```
/// use chandelier::{Cpu, MultiVectors, mean_vectors};
/// let texts = MultiVectors::new(vec![3.0, 0.0, 0.0, 4.0, 0.0, 2.0], vec![0, 2, 3], 2)?;
/// let means = mean_vectors(&(&texts).into(), Cpu::detect()?, &mut |_| Ok(()))?;
/// assert_eq!(means, [0.6, 0.8, 0.0, 1.0]);
/// # Ok::<(), chandelier::Error>(())
/// ```
pub fn mean_vectors(texts: &Matrices, cpu: Cpu, observer: Observer) -> Result<Vec<f32>> {
    let dim = texts.dim();
    one_each("texts", texts, dim, cpu, observer, |rows, vector, go_on| {
        // The sum points where the mean does, and only the direction is kept. float64 cannot overflow here.
        let mut sums = vec![0.0; dim];
        for rows in rows.chunks(BLOCK * dim) {
            for row in rows.chunks_exact(dim) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            go_on()?;
        }
        let length = sums.iter().map(|x| x * x).sum::<f64>().sqrt();
        // NaN, of a row that is not finite, goes on into the vector.
        if length != 0.0 {
            vector.iter_mut().zip(&sums).for_each(|(x, sum)| *x = (sum / length) as f32);
        }
        Ok(())
    })
}
