//! Rows that a caller brings: what a model might have made passes, and each thing that none makes is named.

#![allow(clippy::unwrap_used)]

mod common;

use chandelier::{Cpu, Error, MultiVectors, Pooling, check_rows, pool_tokens};
use common::Random;
use half::f16;
use proptest::prelude::*;

fn unit_rows(random: &mut Random, count: usize, dim: usize) -> Vec<f32> {
    let mut rows = random.numbers(count * dim, 1.0);
    for row in rows.chunks_mut(dim) {
        row[0] += 0.5; // no row of zeros
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}

fn refusal(rows: &[f32], dim: usize, unit: bool) -> String {
    match check_rows("document", rows, dim, unit) {
        Err(Error::Argument { name, got, .. }) if name == "document" => got,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn what_models_make_passes(seed in any::<u64>(), count in 0usize..40, dim in 1usize..200) {
        let rows = unit_rows(&mut Random(seed), count, dim);
        let halves: Vec<f32> = rows.iter().map(|x| f16::from_f32(*x).to_f32()).collect();
        prop_assert!(check_rows("document", &rows, dim, true).is_ok());
        prop_assert!(check_rows("document", &halves, dim, true).is_ok());
        let document = MultiVectors::new(rows, vec![0, count], dim).unwrap();
        let options = Pooling { factor: 3.0, ..Pooling::default() };
        let pooled = pool_tokens(document.view(), &options, Cpu::detect().unwrap(), &mut |_| Ok(())).unwrap();
        // In one dimension the mean of opposite rows is nothing at all.
        prop_assert!(dim == 1 || check_rows("document", pooled.data(), dim, true).is_ok());
    }

    #[test]
    fn each_fault_is_named_wherever_it_is(
        seed in any::<u64>(),
        (count, dim) in (1usize..40, 1usize..200),
        value in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
    ) {
        let mut random = Random(seed);
        let good = unit_rows(&mut random, count, dim);
        let (row, column) = (random.below(count), random.below(dim));
        for unit in [true, false] {
            let mut bad = good.clone();
            bad[row * dim + column] = value;
            prop_assert_eq!(refusal(&bad, dim, unit), format!("{value} at row {row}, column {column}"));
            bad[row * dim..][..dim].fill(-0.0);
            prop_assert_eq!(refusal(&bad, dim, unit), format!("row {row} all zeros"));
        }
        let mut long = good.clone();
        long[row * dim..][..dim].iter_mut().for_each(|x| *x *= 1.02);
        prop_assert_eq!(refusal(&long, dim, true), format!("row {row} of length 1.020"));
        prop_assert!(check_rows("document", &long, dim, false).is_ok());
    }
}

/// Squares that float32 does not hold are neither infinite nor zeros.
#[test]
fn the_largest_and_the_smallest_values_are_seen_as_they_are() {
    assert!(check_rows("document", &[f32::MAX; 64], 64, false).is_ok());
    assert!(check_rows("document", &[f32::from_bits(1), 0.0], 2, true).is_ok());
    assert!(refusal(&[f32::MAX; 64], 64, true).starts_with("row 0 of length "));
}

#[test]
fn parts_of_rows_are_refused() {
    for (values, dim) in [(3, 2), (0, 0), (4, 0)] {
        let checked = check_rows("document", &vec![1.0; values], dim, true);
        assert!(matches!(&checked, Err(Error::Shape { what, .. }) if what == "document"), "{checked:?}");
    }
}
