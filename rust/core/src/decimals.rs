//! Half precision as short decimals, for stores that are sent JSON and keep half precision.

use std::sync::LazyLock;

use half::f16;

/// Digits that tell every number in half precision from its neighbours.
const DIGITS: i32 = 5;

/// What every number in half precision becomes, by its bits: there are few enough to look them up.
static DECIMALS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..=u16::MAX).map(|bits| short_decimal(f16::from_bits(bits).to_f64())).collect());

/// Each value with the fewest digits that matter: rounded to half precision, and then to five significant digits, which
/// are read as that same number. A quarter of the digits, and no value kept is another one.
///
/// ```
/// let values = chandelier::short_decimals(&[0.1, -0.087_654_32, 0.0]);
/// assert_eq!(values, [0.099976, -0.087646, 0.0]);
/// ```
pub fn short_decimals(values: &[f32]) -> Vec<f64> {
    let decimals = &*DECIMALS;
    values.iter().map(|value| decimals[usize::from(f16::from_f32(*value).to_bits())]).collect()
}

fn short_decimal(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = DIGITS - 1 - value.abs().log10().floor() as i32;
    // A power of ten of at most 10^22 is exact, and so is the rounded product: the quotient is the decimal's own double.
    let scale = 10f64.powi(digits.abs());
    if digits < 0 { (value / scale).round() * scale } else { (value * scale).round() / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_from_at_most_five_digits() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_nan() {
                continue;
            }
            let decimal = short_decimals(&[half.to_f32()])[0];
            // Stores read JSON as a double, or as a single, and round that.
            assert_eq!(f16::from_f64(decimal).to_bits(), bits, "{half} as {decimal}");
            assert_eq!(f16::from_f32(decimal as f32).to_bits(), bits, "{half} as {decimal}");
            let written = format!("{decimal:e}");
            let digits = written.split('e').take(1).flat_map(str::chars).filter(char::is_ascii_digit).count();
            assert!(!half.is_finite() || digits <= 5, "{half} as {written}");
        }
    }
}
