//! Laws of MaxSim, of the batch plan and of the values that flow between them; and files that come back
//! whole or not at all.

#![allow(clippy::unwrap_used)]

mod common;

use std::borrow::Cow;
use std::path::Path;

use chandelier::kernels::Simd;
use chandelier::storage::{self, Rows};
use chandelier::{Cpu, Error, Matrices, MatrixView, MultiVectors, batch, maxsim, maxsim_with, mean_vectors};
use common::{Random, panics};
use half::f16;
use proptest::prelude::*;

/// Texts of 1 to 6 rows of `dim` values that are multiples of 1/4: sums are exact, so order cannot matter by
/// rounding, and ties happen.
fn on_a_grid(dim: usize, texts: std::ops::Range<usize>) -> impl Strategy<Value = MultiVectors> {
    let row = prop::collection::vec((-4i8..=4).prop_map(|x| f32::from(x) / 4.0), dim);
    let text = prop::collection::vec(row, 1..7);
    prop::collection::vec(text, texts).prop_map(move |texts| joined(&texts, dim))
}

fn of_any_width() -> impl Strategy<Value = MultiVectors> {
    (1usize..6).prop_flat_map(|dim| on_a_grid(dim, 0..8))
}

fn joined(texts: &[Vec<Vec<f32>>], dim: usize) -> MultiVectors {
    let mut offsets = vec![0];
    offsets.extend(texts.iter().scan(0, |rows, text| {
        *rows += text.len();
        Some(*rows)
    }));
    MultiVectors::new(texts.concat().concat(), offsets, dim).unwrap()
}

fn maxsim_matrix(queries: &MultiVectors, documents: &MultiVectors) -> Result<Vec<f32>, Error> {
    chandelier::maxsim_matrix(&queries.into(), &documents.into(), Cpu::detect()?, &mut |_| Ok(()))
}

fn top_k(query: &[f32], documents: &MultiVectors, k: usize) -> Result<Vec<(usize, f32)>, Error> {
    chandelier::top_k(query, &documents.into(), k, Cpu::detect()?, &mut |_| Ok(()))
}

fn reference(query: &[f32], document: &[f32], dim: usize) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    query.chunks(dim).map(|q| document.chunks(dim).map(|d| dot(q, d)).fold(f64::NEG_INFINITY, f64::max)).sum()
}

fn queries_and_documents() -> impl Strategy<Value = (MultiVectors, MultiVectors)> {
    (1usize..6).prop_flat_map(|dim| (on_a_grid(dim, 1..4), on_a_grid(dim, 0..20)))
}

proptest! {
    #[test]
    fn maxsim_is_the_float64_loop(
        (dim, q, lengths) in (1usize..70, 1usize..40, prop::collection::vec(1usize..50, 0..6)),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let size = 1.0 / (dim as f32).sqrt();
        let query = random.numbers(q * dim, size);
        let texts: Vec<Vec<Vec<f32>>> =
            lengths.iter().map(|&n| (0..n).map(|_| random.numbers(dim, size)).collect()).collect();
        let documents = joined(&texts, dim);
        let got = maxsim(&query, &documents).unwrap();
        prop_assert_eq!(got.len(), lengths.len());
        for (got, document) in got.iter().zip(documents.view().iter()) {
            let want = reference(&query, document, dim);
            prop_assert!((f64::from(*got) - want).abs() < 3e-7 * q as f64, "{got} for {want}");
        }
    }

    #[test]
    fn on_a_grid_every_way_is_exact((queries, documents) in queries_and_documents()) {
        let dim = queries.dim();
        let matrix = maxsim_matrix(&queries, &documents).unwrap();
        let rows: Vec<f32> =
            queries.view().iter().flat_map(|q| maxsim(q, &documents).unwrap()).collect();
        let want: Vec<f32> = queries
            .view()
            .iter()
            .flat_map(|q| documents.view().iter().map(move |d| reference(q, d, dim) as f32).collect::<Vec<_>>())
            .collect();
        prop_assert_eq!(&rows, &want);
        prop_assert_eq!(matrix, want);
    }

    #[test]
    fn the_order_of_rows_is_nothing_and_more_rows_are_no_loss(
        (queries, documents) in queries_and_documents(),
        seed in any::<u64>(),
    ) {
        let (dim, query) = (queries.dim(), queries.get(0));
        let mut random = Random(seed);
        let plain = maxsim(query, &documents).unwrap();
        let split = |text: &[f32]| text.chunks(dim).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let mut texts: Vec<_> = documents.view().iter().map(split).collect();
        for text in &mut texts {
            (1..text.len()).rev().for_each(|i| text.swap(i, random.below(i + 1)));
        }
        prop_assert_eq!(&maxsim(query, &joined(&texts, dim)).unwrap(), &plain);
        for text in &mut texts {
            let place = random.below(text.len() + 1);
            text.insert(place, random.numbers(dim, 1.0).iter().map(|x| (x * 4.0).round() / 4.0).collect());
        }
        let longer = maxsim(query, &joined(&texts, dim)).unwrap();
        prop_assert!(longer.iter().zip(&plain).all(|(longer, plain)| longer >= plain));
    }

    #[test]
    fn top_k_is_the_head_of_a_stable_sort((queries, documents) in queries_and_documents(), k in 0usize..25) {
        let query = queries.get(0);
        let mut all: Vec<(usize, f32)> =
            maxsim(query, &documents).unwrap().into_iter().enumerate().collect();
        all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
        all.truncate(k);
        prop_assert_eq!(top_k(query, &documents, k).unwrap(), all);
    }

    #[test]
    fn a_selection_is_all_of_them_with_a_mask(
        (queries, documents) in queries_and_documents(),
        masks in prop::collection::vec((any::<bool>(), any::<bool>()), 20),
        k in 0usize..25,
    ) {
        let (query, cpu) = (queries.get(0), Cpu::detect().unwrap());
        let chosen = |mask: &dyn Fn(&(bool, bool)) -> bool| -> Vec<usize> {
            (0..documents.len()).filter(|&index| mask(&masks[index])).collect()
        };
        let (once, twice) = (chosen(&|mask| mask.0), chosen(&|mask| mask.0 && mask.1));
        let within: Vec<usize> = (0..once.len()).filter(|&at| masks[once[at]].1).collect();
        let list = documents.view().iter().map(MatrixView::Float32).collect();
        let list = Matrices::new(list, documents.dim()).unwrap();
        let all: Vec<(usize, f32)> = maxsim(query, &documents).unwrap().into_iter().enumerate().collect();
        for (selection, indices) in [
            (Matrices::from(&documents).select(&once).unwrap(), &once),
            (list.clone().select(&twice).unwrap(), &twice),
            (list.select(&once).unwrap().select(&within).unwrap(), &twice),
        ] {
            prop_assert_eq!(selection.len(), indices.len());
            let mut want: Vec<(usize, f32)> = indices.iter().map(|&index| all[index]).collect();
            let scores = maxsim_with(query, &selection, cpu, &mut |_| Ok(())).unwrap();
            prop_assert_eq!(scores, want.iter().map(|(_, score)| *score).collect::<Vec<_>>());
            want.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
            want.truncate(k);
            prop_assert_eq!(chandelier::top_k(query, &selection, k, cpu, &mut |_| Ok(())).unwrap(), want);
        }
    }

    #[test]
    fn means_are_unit_and_point_where_the_rows_do(documents in of_any_width()) {
        let dim = documents.dim();
        let means = mean_vectors(&(&documents).into(), Cpu::detect().unwrap(), &mut |_| Ok(())).unwrap();
        prop_assert_eq!(means.len(), documents.len() * dim);
        for (mean, text) in means.chunks(dim).zip(documents.view().iter()) {
            let sum: Vec<f32> = (0..dim).map(|c| text.chunks(dim).map(|row| row[c]).sum()).collect();
            let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
            for (mean, sum) in mean.iter().zip(sum) {
                prop_assert!((mean * length - sum).abs() < 1e-5, "{mean} * {length} is not {sum}");
            }
        }
    }

    #[test]
    fn a_plan_holds_every_index_once_and_no_batch_too_large(
        lengths in prop::collection::vec(0usize..600, 0..80),
        limit in 1usize..700,
    ) {
        let plan = batch::plan(&lengths, limit);
        let mut seen = plan.concat();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        for batch in &plan {
            let total: usize = batch.iter().map(|&i| lengths[i]).sum();
            prop_assert!(total <= limit || batch.iter().filter(|&&i| lengths[i] > 0).count() == 1, "{total}");
        }
        let order: Vec<usize> = plan.concat().iter().map(|&i| lengths[i]).collect();
        prop_assert!(order.is_sorted_by(|a, b| a >= b), "not longest first: {order:?}");
        // Two neighbours would not have fitted into one: no batch is cut short.
        for pair in plan.windows(2) {
            let total: usize = pair[0].iter().chain(&pair[1][..1]).map(|&i| lengths[i]).sum();
            prop_assert!(total > limit);
        }
        prop_assert_eq!(plan, batch::plan(&lengths, limit));
    }

    #[test]
    fn multivectors_take_what_fits_and_nothing_else(
        values in 0usize..30,
        offsets in prop::collection::vec(0usize..12, 0..6),
        dim in 0usize..5,
    ) {
        let fits = dim > 0
            && values % dim == 0
            && offsets.first() == Some(&0)
            && offsets.last() == Some(&(values / dim))
            && offsets.is_sorted();
        let data: Vec<f32> = (0..values).map(|x| x as f32).collect();
        match MultiVectors::new(data.clone(), offsets.clone(), dim) {
            Ok(made) => {
                prop_assert!(fits);
                prop_assert_eq!(made.len(), offsets.len() - 1);
                prop_assert_eq!(made.view().iter().flatten().copied().collect::<Vec<_>>(), data.clone());
                prop_assert_eq!(made.into_parts(), (data, offsets, dim));
            }
            Err(Error::Shape { .. }) => prop_assert!(!fits),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn files_come_back_bit_for_bit(documents in of_any_width(), seed in any::<u64>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors.safetensors");
        // Any bits at all, NaN with a payload among them.
        let mut random = Random(seed);
        let data: Vec<f32> = documents.data().iter().map(|_| f32::from_bits(random.next() as u32)).collect();
        let short: Vec<f16> = data.iter().map(|_| f16::from_bits(random.next() as u16)).collect();
        for rows in [Rows::F32(Cow::Borrowed(&data)), Rows::F16(Cow::Borrowed(&short))] {
            storage::save(&path, &rows, documents.offsets(), documents.dim()).unwrap();
            let stored = storage::load(&path).unwrap();
            prop_assert_eq!((&stored.offsets[..], stored.dim), (documents.offsets(), documents.dim()));
            match (&stored.rows, &rows) {
                (Rows::F32(got), Rows::F32(want)) => {
                    prop_assert!(got.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits())));
                }
                (Rows::F16(got), Rows::F16(want)) => {
                    prop_assert!(got.iter().map(|x| x.to_bits()).eq(want.iter().map(|x| x.to_bits())));
                }
                _ => prop_assert!(false, "another precision came back"),
            }
        }
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
    }
}

fn half(values: &[f32]) -> Vec<f16> {
    values.iter().map(|x| f16::from_f32(*x)).collect()
}

/// Every instruction set and several numbers of threads.
fn every_way() -> impl Iterator<Item = Cpu> {
    Simd::available().into_iter().flat_map(|simd| [1, 2, 5].map(|threads| Cpu { threads, simd }))
}

/// One text of each of the lengths.
fn random_texts(random: &mut Random, lengths: &[usize], dim: usize) -> MultiVectors {
    let offsets = std::iter::once(0).chain(lengths.iter().scan(0, |rows, n| {
        *rows += n;
        Some(*rows)
    }));
    let rows: usize = lengths.iter().sum();
    let values = random.numbers(rows * dim, 1.0 / (dim as f32).sqrt());
    MultiVectors::new(values, offsets.collect(), dim).unwrap()
}

/// Long documents are cut between threads, many queries are scored in groups, lists and half precision are read where
/// they lie: all that may change how, and not what.
#[test]
fn every_way_gives_the_float64_scores_and_the_same_bits() {
    let mut random = Random(5);
    for (dim, query_tokens, lengths) in [
        (128, 32, vec![161; 60]),
        (128, 1, vec![1, 10_000, 2, 3]),
        (96, 1024, vec![7, 1024, 1025, 1]),
        (48, 33, vec![5_000, 5_000]),
        (64, 17, vec![1; 9_000]),
        (77, 300, vec![300, 12, 11, 13, 1, 4, 3]),
        (1, 3, vec![2_000, 1]),
        (1023, 5, vec![40, 3]),
    ] {
        let query = random.numbers(query_tokens * dim, 1.0 / (dim as f32).sqrt());
        let documents = random_texts(&mut random, &lengths, dim);
        let halves = half(documents.data());
        let rounded: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let rounded = MultiVectors::new(rounded, documents.offsets().to_vec(), dim).unwrap();
        let joined = Matrices::joined(MatrixView::Float16(&halves), documents.offsets(), dim).unwrap();
        let list = documents.view().iter().map(MatrixView::Float32).collect();
        let list = Matrices::new(list, dim).unwrap();
        let want: Vec<f64> = documents.view().iter().map(|text| reference(&query, text, dim)).collect();
        let mut fused: Option<Vec<f32>> = None;
        for cpu in every_way() {
            let got = maxsim_with(&query, &list, cpu, &mut |_| Ok(())).unwrap();
            for (got, want) in got.iter().zip(&want) {
                let gap = (f64::from(*got) - want).abs();
                assert!(gap < 1e-5 * query_tokens as f64, "{got} for {want}, dim {dim}, {cpu:?}");
            }
            let of_halves = maxsim_with(&query, &joined, cpu, &mut |_| Ok(())).unwrap();
            assert_eq!(of_halves, maxsim_with(&query, &(&rounded).into(), cpu, &mut |_| Ok(())).unwrap());
            if cpu.simd.name() != "portable" {
                assert_eq!(fused.get_or_insert_with(|| got.clone()), &got, "dim {dim}, {cpu:?}");
            } else {
                let one = Cpu { threads: 1, ..cpu };
                assert_eq!(maxsim_with(&query, &list, one, &mut |_| Ok(())).unwrap(), got);
            }
        }
    }
}

#[test]
fn a_matrix_of_scores_is_its_rows_in_every_group() {
    let mut random = Random(11);
    let dim = 16;
    let documents = random_texts(&mut random, &[3, 200, 5_000, 1], dim);
    // 5,000 columns and more: several groups, the first query alone a group larger than any.
    let queries = random_texts(&mut random, &[&[2_500, 1, 31][..], &[64; 40]].concat(), dim);
    for cpu in every_way() {
        let matrix =
            chandelier::maxsim_matrix(&(&queries).into(), &(&documents).into(), cpu, &mut |_| Ok(()))
                .unwrap();
        let each = chandelier::top_k_each(&(&queries).into(), &(&documents).into(), 3, cpu, &mut |_| Ok(()));
        let single: Vec<_> = queries.view().iter().map(|query| top_k_of(query, &documents, cpu)).collect();
        assert_eq!(each.unwrap(), single);
        for (query, row) in queries.view().iter().zip(matrix.chunks(documents.len())) {
            assert_eq!(maxsim_with(query, &(&documents).into(), cpu, &mut |_| Ok(())).unwrap(), row);
            let pairs = top_k_of(query, &documents, cpu);
            assert!(pairs.iter().all(|(index, score)| row[*index] == *score));
        }
    }
}

fn top_k_of(query: &[f32], documents: &MultiVectors, cpu: Cpu) -> Vec<(usize, f32)> {
    chandelier::top_k(query, &documents.into(), 3, cpu, &mut |_| Ok(())).unwrap()
}

#[test]
fn a_value_that_is_not_finite_is_named_in_a_long_document_too() {
    let mut random = Random(2);
    let texts = random_texts(&mut random, &[3, 9_000], 8);
    for (value, row) in [(f32::NAN, 0), (f32::INFINITY, 4_095), (f32::NEG_INFINITY, 8_999)] {
        let mut values = texts.data().to_vec();
        values[(3 + row) * 8 + 5] = value;
        let halves = half(&values);
        for rows in [MatrixView::Float32(&values), MatrixView::Float16(&halves)] {
            let documents = Matrices::joined(rows, texts.offsets(), 8).unwrap();
            for cpu in every_way() {
                let result = maxsim_with(&texts.get(0)[..8], &documents, cpu, &mut |_| Ok(()));
                let place = format!("[1], row {row}, column 5");
                assert!(
                    matches!(&result, Err(Error::Argument { name, got, .. }) if name == "documents" && got.contains(&place)),
                    "{result:?}"
                );
            }
        }
    }
}

fn two_texts() -> MultiVectors {
    MultiVectors::new(vec![1.0, 0.0, 0.0, 1.0, 0.5, 0.5], vec![0, 2, 3], 2).unwrap()
}

/// Both functions that score, as one kind of result.
fn both(query: &[f32], documents: &MultiVectors) -> [Result<(), Error>; 2] {
    [maxsim(query, documents).map(drop), top_k(query, documents, 1).map(drop)]
}

#[test]
fn errors_name_the_matrix() {
    let good = two_texts();
    let with =
        |value: f32| MultiVectors::new(vec![1.0, 0.0, 0.0, 1.0, 0.5, value], vec![0, 2, 3], 2).unwrap();
    let no_rows = MultiVectors::new(vec![1.0, 0.0], vec![0, 1, 1], 2).unwrap();
    for result in both(&[], &good).into_iter().chain(both(&[1.0, 0.0, 0.5], &good)) {
        assert!(matches!(&result, Err(Error::Shape { what, .. }) if what.starts_with("query")), "{result:?}");
    }
    for result in both(&[1.0, 0.0], &no_rows) {
        assert!(matches!(&result, Err(Error::Shape { what, .. }) if what == "documents[1]"), "{result:?}");
    }
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for result in both(&[1.0, value], &good) {
            assert!(matches!(&result, Err(Error::Argument { name, .. }) if name == "query"), "{result:?}");
        }
        for result in both(&[1.0, 0.0], &with(value)) {
            let named = |got: &str| got.contains("[1], row 0, column 1");
            assert!(
                matches!(&result, Err(Error::Argument { name, got, .. }) if name == "documents" && named(got)),
                "{result:?}"
            );
        }
    }
    for result in both(&[3e38, 3e38], &with(3e38)) {
        assert!(matches!(&result, Err(Error::Argument { .. })), "{result:?}");
    }
    let wide = MultiVectors::new(vec![1.0; 3], vec![0, 1], 3).unwrap();
    assert!(matches!(maxsim_matrix(&good, &wide), Err(Error::Shape { what, .. }) if what == "dim"));
    assert!(matches!(maxsim_matrix(&no_rows, &good), Err(Error::Shape { what, .. }) if what == "queries[1]"));
}

/// Sums of +inf and -inf are NaN, and an infinite score orders nothing: both are refused.
#[test]
fn products_that_overflow_are_refused_in_every_sum() {
    let documents = MultiVectors::new(vec![3e38, 3e38], vec![0, 1], 2).unwrap();
    for query in [&[3e38, 0.0][..], &[-3e38, 0.0], &[3e38, 0.0, -3e38, 0.0]] {
        assert!(maxsim(query, &documents).is_err(), "{query:?}");
    }
    // NaN similarities (inf - inf inside one product) must not vanish in the maximum.
    let documents = MultiVectors::new(vec![3e38, -3e38, 0.0, 0.0], vec![0, 2], 2).unwrap();
    let scored = maxsim(&[3e38, 3e38], &documents);
    assert!(scored.is_err(), "{scored:?}");
}

/// Each product is finite here; their sum is not.
#[test]
fn a_sum_of_products_that_overflows_is_refused() {
    let documents = MultiVectors::new(vec![2e19], vec![0, 1], 1).unwrap();
    let scored = maxsim(&[1e19, 1e19, 1e19], &documents);
    assert!(matches!(&scored, Err(Error::Argument { name, .. }) if name == "documents"), "{scored:?}");
}

#[test]
fn borrowed_matrices_take_what_fits_and_nothing_else() {
    let values = [1.0f32, 2.0, 3.0, 4.0];
    for offsets in [&[0, 1][..], &[0, 3], &[1, 2], &[0, 2, 1, 2], &[]] {
        let joined = Matrices::joined(MatrixView::Float32(&values), offsets, 2);
        assert!(matches!(&joined, Err(Error::Shape { .. })), "{offsets:?}: {joined:?}");
    }
    assert!(Matrices::joined(MatrixView::Float32(&values), &[0, 2], 0).is_err());
    assert!(Matrices::joined(MatrixView::Float32(&values), &[0, 1, 2], 2).is_ok());
    let lists = Matrices::new(vec![MatrixView::Float32(&values), MatrixView::Float32(&values[..3])], 2);
    assert!(matches!(&lists, Err(Error::Shape { what, .. }) if what == "matrices[1]"), "{lists:?}");
}

#[test]
fn a_selection_takes_rising_indices_of_texts_and_nothing_else() {
    let texts = two_texts();
    for (subset, named) in [
        (&[1, 0][..], "1 and then 0 at [1]"),
        (&[0, 0], "0 and then 0 at [1]"),
        (&[0, 2, 9], "2 at [1]"),
        (&[0, 1, 2], "2 at [2]"),
    ] {
        let selected = Matrices::from(&texts).select(subset);
        assert!(
            matches!(&selected, Err(Error::Argument { name, got, .. }) if name == "subset" && got == named),
            "{selected:?}"
        );
    }
    let selected = Matrices::from(&texts).select(&[1]).unwrap();
    assert!(selected.clone().select(&[1]).is_err(), "there is one text left");
    assert!(selected.select(&[]).unwrap().is_empty());
}

/// A text that is not selected may hold anything, and one that is keeps its index in errors.
#[test]
fn errors_about_a_selection_name_the_index_among_all() {
    let values = vec![f32::NAN, 0.0, 1.0, 0.0, 3e38, 3e38, 0.0, f32::INFINITY];
    let texts = MultiVectors::new(values, vec![0, 1, 1, 2, 3, 4], 2).unwrap();
    let query = [3e38, 3e38];
    for (bad, place) in [(0, "[0], row 0"), (1, "documents[1]"), (3, "overflow at [3]"), (4, "[4], row 0")] {
        let selected = Matrices::from(&texts).select(&[bad.min(2), bad.max(2)]).unwrap();
        for cpu in every_way() {
            let query = if bad == 3 { query } else { [1.0, 0.0] };
            let scored = maxsim_with(&query, &selected, cpu, &mut |_| Ok(()));
            assert!(scored.as_ref().is_err_and(|e| e.to_string().contains(place)), "{bad}: {scored:?}");
        }
    }
    let good = Matrices::from(&texts).select(&[2]).unwrap();
    assert_eq!(maxsim_with(&[1.0, 0.0], &good, Cpu::detect().unwrap(), &mut |_| Ok(())).unwrap(), [1.0]);
    let mean = mean_vectors(&good.select(&[0]).unwrap(), Cpu::detect().unwrap(), &mut |_| Ok(())).unwrap();
    assert_eq!(mean, [1.0, 0.0]);
    let bad = Matrices::from(&texts).select(&[2, 4]).unwrap();
    let mean = mean_vectors(&bad, Cpu::detect().unwrap(), &mut |_| Ok(()));
    assert!(mean.as_ref().is_err_and(|e| e.to_string().contains("[4], row 0, column 1")), "{mean:?}");
}

#[test]
fn nothing_to_search_is_no_error() {
    let none = MultiVectors::new(vec![], vec![0], 2).unwrap();
    assert!(maxsim(&[1.0, 0.0], &none).unwrap().is_empty());
    assert!(top_k(&[1.0, 0.0], &none, 3).unwrap().is_empty());
    assert!(maxsim_matrix(&none, &two_texts()).unwrap().is_empty());
    assert_eq!(top_k(&[1.0, 0.0], &two_texts(), usize::MAX).unwrap().len(), 2);
}

/// Loads, and where it loads, what came must be usable.
fn load_without_panic(path: &Path, what: &str) -> Result<(), Error> {
    let loaded = panics(|| storage::load(path)).unwrap_or_else(|panic| panic!("{what}: panics: {panic}"))?;
    if let Rows::F32(rows) = loaded.rows {
        MultiVectors::new(rows.into_owned(), loaded.offsets, loaded.dim).map(drop)?;
    }
    Ok(())
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors");
    let texts = two_texts();
    let halves: Vec<f16> = texts.data().iter().map(|x| f16::from_f32(*x)).collect();
    for rows in [Rows::F32(Cow::Borrowed(texts.data())), Rows::F16(Cow::Owned(halves))] {
        storage::save(&path, &rows, texts.offsets(), texts.dim()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 100);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let result = load_without_panic(&path, &format!("cut at {length}"));
            assert!(matches!(result, Err(Error::Model { .. })), "cut at {length}: {result:?}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(load_without_panic(&path, "one byte more").is_err());
    }
}

#[test]
fn a_file_with_any_bit_wrong_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors");
    let texts = two_texts();
    storage::save(&path, &Rows::F32(Cow::Borrowed(texts.data())), texts.offsets(), texts.dim()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut errors = 0;
    for (place, bit) in (0..whole.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << bit;
        std::fs::write(&path, damaged).unwrap();
        errors += usize::from(load_without_panic(&path, &format!("bit {bit} of {place}")).is_err());
    }
    // Nearly all of the header and of the offsets matters; the values may be anything.
    assert!(errors > whole.len() * 8 / 2, "{errors}");
}

#[test]
fn saving_what_does_not_fit_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors");
    let rows = Rows::F32(Cow::Borrowed(&[1.0, 2.0, 3.0][..]));
    assert!(matches!(storage::save(&path, &rows, &[0, 1], 2), Err(Error::Shape { .. })));
    assert!(matches!(storage::save(&path, &rows, &[0, 2], 1), Err(Error::Shape { .. })));
    assert!(matches!(
        storage::save(&folder.path().join("no/such/vectors"), &rows, &[0, 3], 1),
        Err(Error::Missing { .. })
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(matches!(storage::load(&path), Err(Error::Missing { .. })));
}
