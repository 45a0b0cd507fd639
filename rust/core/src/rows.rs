//! A check of rows that come from a caller instead of a model, before they are stored or searched with.

use crate::error::{Error, Result};

/// The largest length of a row that counts as 1: half precision moves it by less than a thousandth.
const LONGEST: f64 = 1.01;

/// Refuses rows of `dim` values that no model would have made: a value that is not finite, a row of zeros, which is
/// padding, and, if they are to be unit rows, one that is longer. Means of unit rows are shorter, and pass.
///
/// # Errors
/// [`Error::Shape`] if these are no whole rows, else [`Error::Argument`]; `name` is what they are called there.
///
/// ```
/// use chandelier::check_rows;
/// assert!(check_rows("document", &[0.6, 0.8, 0.5, 0.5], 2, true).is_ok());
/// let error = check_rows("document", &[0.6, 0.8, 0.0, 0.0], 2, true).unwrap_err();
/// assert_eq!(error.to_string(), "document: got row 1 all zeros, wanted no padding: leave such rows out");
/// ```
pub fn check_rows(name: &str, rows: &[f32], dim: usize, unit: bool) -> Result<()> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(Error::shape(name, format!("{} values", rows.len()), format!("whole rows of {dim}")));
    }
    for (index, row) in rows.chunks_exact(dim).enumerate() {
        // In float64 no square of a float32 overflows and none becomes 0, so this one number tells all.
        let square = sum_of_squares(row);
        if !square.is_finite()
            && let Some(column) = row.iter().position(|x| !x.is_finite())
        {
            let got = format!("{} at row {index}, column {column}", row[column]);
            return Err(Error::argument(name, got, "finite values"));
        }
        if square == 0.0 {
            return Err(Error::argument(
                name,
                format!("row {index} all zeros"),
                "no padding: leave such rows out",
            ));
        }
        if unit && square.sqrt() > LONGEST {
            let got = format!("row {index} of length {:.3}", square.sqrt());
            return Err(Error::argument(name, got, "unit rows: divide each by its length"));
        }
    }
    Ok(())
}

/// In 8 lanes, so that several squares are added at once.
fn sum_of_squares(row: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = row.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += f64::from(*x) * f64::from(*x));
    }
    lanes.iter().sum::<f64>() + rest
}
