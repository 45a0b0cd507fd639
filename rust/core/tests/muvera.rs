//! Laws of MUVERA's encodings and of the candidates that single vectors find. That encodings are FastEmbed's is tested
//! from Python, beside FastEmbed.

#![allow(clippy::unwrap_used)]

mod common;

use chandelier::kernels::Simd;
use chandelier::{Candidates, Cpu, Error, Matrices, MatrixView, Muvera, MuveraOptions, mean_vectors};
use common::{Random, worst};
use proptest::prelude::*;

fn cpu() -> Cpu {
    Cpu::detect().unwrap()
}

fn texts(data: &[f32], lengths: &[usize], dim: usize) -> Vec<Vec<f32>> {
    let mut rows = data.chunks_exact(dim);
    lengths.iter().map(|n| rows.by_ref().take(*n).flatten().copied().collect()).collect()
}

fn matrices(texts: &[Vec<f32>], dim: usize) -> Matrices<'_> {
    Matrices::new(texts.iter().map(|text| MatrixView::Float32(text)).collect(), dim).unwrap()
}

fn both(muvera: &Muvera, texts: &Matrices) -> (Vec<f32>, Vec<f32>) {
    let queries = muvera.encode_queries(texts, &mut |_| Ok(())).unwrap();
    (queries, muvera.encode_documents(texts, &mut |_| Ok(())).unwrap())
}

proptest! {
    #[test]
    fn instructions_and_threads_change_no_bit(
        dim in 1usize..150,
        ksim in 0usize..7,
        share in 0.0..1.0,
        lengths in prop::collection::vec(1usize..90, 1..9),
        seed in any::<u64>(),
    ) {
        let dprojections = ((dim as f64 * share) as usize).max(1);
        let options = MuveraOptions { ksim, dprojections, repetitions: 3, seed: seed.into() };
        let data = Random(seed).numbers(lengths.iter().sum::<usize>() * dim, 1.0);
        let texts = texts(&data, &lengths, dim);
        let texts = matrices(&texts, dim);
        let want = both(&Muvera::new(dim, &options, cpu()).unwrap(), &texts);
        prop_assert!(want.0.iter().chain(&want.1).all(|x| x.is_finite()));
        for (simd, threads) in Simd::available().into_iter().flat_map(|simd| [1, 3].map(|n| (simd, n))) {
            let got = both(&Muvera::new(dim, &options, Cpu { threads, simd }).unwrap(), &texts);
            prop_assert_eq!(&got, &want, "{} on {} threads", simd.name(), threads);
        }
    }

    /// Without clusters and projections: a query is the sum of its rows, a document their mean.
    #[test]
    fn one_cluster_holds_all_rows(dim in 1usize..100, tokens in 1usize..200, seed in any::<u64>()) {
        let options = MuveraOptions { ksim: 0, dprojections: dim, repetitions: 1, seed: 0 };
        let text = Random(seed).numbers(tokens * dim, 1.0);
        let sums: Vec<f64> =
            (0..dim).map(|c| text.iter().skip(c).step_by(dim).map(|x| f64::from(*x)).sum()).collect();
        let texts = [text];
        let (query, document) = both(&Muvera::new(dim, &options, cpu()).unwrap(), &matrices(&texts, dim));
        let of = |scale: f64| sums.iter().map(|sum| (sum * scale) as f32).collect::<Vec<_>>();
        prop_assert!(worst(&query, &of(1.0)) < 1e-6 * tokens as f32);
        prop_assert!(worst(&document, &of(1.0 / tokens as f64)) < 1e-6);
    }

    #[test]
    fn candidates_are_the_head_of_a_stable_sort(
        sizes in (1usize..20, 0usize..600, 1usize..5),
        cuts in prop::collection::vec(0.0..1.0, 0..4),
        depth in 0usize..40,
        seed in any::<u64>(),
    ) {
        let (count, vectors, size) = sizes;
        let mut random = Random(seed);
        let mut whole = |n: usize| -> Vec<f32> { (0..n * size).map(|_| random.below(5) as f32 - 2.0).collect() };
        let (queries, vectors) = (whole(count), whole(vectors));
        let mut ends: Vec<usize> = cuts.iter().map(|c| (c * (vectors.len() / size) as f64) as usize * size).collect();
        ends.sort_unstable();
        ends.push(vectors.len());
        let mut candidates = Candidates::new(count, depth);
        let mut start = 0;
        for end in ends {
            candidates.add(&queries, &vectors[start..end], size, cpu(), &mut |_| Ok(())).unwrap();
            start = end;
        }
        for (index, query) in queries.chunks(size).enumerate() {
            let product = |v: &[f32]| v.iter().zip(query).map(|(x, y)| x * y).sum::<f32>();
            let mut want: Vec<usize> = (0..vectors.len() / size).collect();
            want.sort_by_key(|v| -product(&vectors[v * size..][..size]) as i64);
            want.truncate(depth);
            prop_assert_eq!(candidates.of(index).collect::<Vec<_>>(), want);
        }
    }
}

#[test]
fn recall_counts_what_was_found() {
    let mut candidates = Candidates::new(2, 3);
    candidates.add(&[1.0, -1.0], &[1.0, 2.0, 3.0, 4.0], 1, cpu(), &mut |_| Ok(())).unwrap();
    let wanted = [vec![3, 0], vec![0, 2]];
    let shares: Vec<f64> = (0..5).map(|depth| candidates.recall(&wanted, depth).unwrap().mean).collect();
    assert_eq!(shares, [0.0, 0.5, 0.5, 0.75, 0.75]);
    let none = candidates.recall(&wanted, 0).unwrap();
    assert!(none.low == 0.0 && none.high > 0.6, "{none:?}");
    assert!(candidates.recall(&wanted[..1], 1).is_err());
    assert!(candidates.recall(&[vec![0], vec![]], 1).is_err());
    assert!(Candidates::new(0, 3).recall(&[], 1).is_err());
    assert!(candidates.add(&[1.0], &[1.0], 1, cpu(), &mut |_| Ok(())).is_err());
    assert!(candidates.add(&[1.0, 1.0], &[1.0, f32::NAN], 1, cpu(), &mut |_| Ok(())).is_err());
    assert!(candidates.add(&[], &[], 0, cpu(), &mut |_| Ok(())).is_err());
}

#[test]
fn options_out_of_range_are_named() {
    let good = MuveraOptions::default();
    for (dim, options, named) in [
        (0, good, "dim"),
        (1 << 17, good, "dim"),
        (128, MuveraOptions { dprojections: 0, ..good }, "dprojections"),
        (128, MuveraOptions { dprojections: 129, ..good }, "dprojections"),
        (128, MuveraOptions { repetitions: 0, ..good }, "repetitions"),
        (128, MuveraOptions { ksim: 16, ..good }, "ksim"),
        (128, MuveraOptions { ksim: usize::MAX, ..good }, "ksim"),
        (128, MuveraOptions { repetitions: usize::MAX, ..good }, "ksim"),
        (1 << 16, MuveraOptions { ksim: 0, repetitions: 1 << 13, ..good }, "repetitions"),
        (1 << 16, MuveraOptions { ksim: 10, dprojections: 1, repetitions: 1 << 9, ..good }, "repetitions"),
    ] {
        let result = Muvera::new(dim, &options, cpu()).map(|made| made.size());
        assert!(matches!(&result, Err(Error::Argument { name, .. }) if name == named), "{named}: {result:?}");
    }
    let largest = MuveraOptions { ksim: 24, dprojections: 1, repetitions: 1, seed: u128::MAX };
    assert_eq!(Muvera::new(2, &largest, cpu()).unwrap().size(), 1 << 24);
}

#[test]
fn rows_that_cannot_be_encoded_are_named() {
    let muvera =
        Muvera::new(2, &MuveraOptions { ksim: 2, dprojections: 1, ..Default::default() }, cpu()).unwrap();
    type Encode<'a> = &'a dyn Fn(&Matrices) -> Result<Vec<f32>, Error>;
    let encoders: [Encode; 3] = [
        &|texts| muvera.encode_queries(texts, &mut |_| Ok(())),
        &|texts| muvera.encode_documents(texts, &mut |_| Ok(())),
        &|texts| mean_vectors(texts, cpu(), &mut |_| Ok(())),
    ];
    for encode in encoders {
        let error = encode(&matrices(&[vec![1.0, 2.0], vec![]], 2)).unwrap_err();
        assert!(matches!(&error, Error::Shape { what, .. } if what.ends_with("[1]")), "{error}");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..6 {
                let mut text = vec![1.0; 6];
                text[place] = value;
                let error = encode(&matrices(&[vec![1.0, 2.0], text], 2)).unwrap_err().to_string();
                let where_it_is = format!("[1], row {}, column {}", place / 2, place % 2);
                assert!(error.contains(&where_it_is), "{error}");
            }
        }
        assert!(encode(&matrices(&[], 2)).unwrap().is_empty());
    }
    let huge = [vec![f32::MAX; 4]];
    assert!(muvera.encode_queries(&matrices(&huge, 2), &mut |_| Ok(())).is_err());
    let wide = muvera.encode_queries(&matrices(&[vec![1.0; 3]], 3), &mut |_| Ok(()));
    assert!(matches!(wide, Err(Error::Shape { .. })));
    let stopped = muvera.encode_queries(&matrices(&[vec![1.0; 2]], 2), &mut |_| Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
