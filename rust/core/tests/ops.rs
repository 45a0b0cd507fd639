//! Laws of the operations that encoders are written with, against plain float64 loops.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use chandelier::Batch;
use chandelier::ops::{
    Activation, Embedding, Heads, LayerNorm, Linear, Mask, Numbering, RmsNorm, Rope, ShortConv, attention,
    blank_unattended, gate,
};
use common::{Random, panics, tensor, values, worst};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

/// Float64 results as float32, for `worst`.
fn rounded(values: impl IntoIterator<Item = f64>) -> Vec<f32> {
    values.into_iter().map(|x| x as f32).collect()
}

/// A batch of texts of these lengths and attended counts; ids do not matter to attention and RoPE.
fn batch(texts: &[(usize, usize)]) -> Batch {
    let ids = vec![0; texts.iter().map(|t| t.0).max().unwrap_or(0)];
    Batch::new(texts.iter().map(|&(rows, attended)| (&ids[..rows], attended))).unwrap()
}

/// `columns` of every row of a `[rows, width]` tensor: rows that lie apart, as those of a fused projection do.
fn slice(x: &Tensor, start: usize, columns: usize) -> Tensor {
    x.narrow(1, start, columns).unwrap()
}

fn float64(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

fn masks() -> impl Strategy<Value = Mask> {
    prop_oneof![Just(Mask::Bidirectional), Just(Mask::Causal), (0usize..12).prop_map(Mask::Window)]
}

/// The definition of a mask, besides that nobody sees what is not attended to.
fn sees(mask: Mask, row: usize, other: usize) -> bool {
    match mask {
        Mask::Bidirectional => true,
        Mask::Causal => other <= row,
        Mask::Window(reach) => row.abs_diff(other) <= reach,
    }
}

/// Up to five texts of up to 40 rows, of which some or all are attended to.
fn ragged() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((1usize..40).prop_flat_map(|rows| (Just(rows), 1..=rows)), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn linear_is_the_float64_loop(
        (m, k, n) in (1usize..70, 1usize..200, 1usize..200),
        bias in any::<bool>(),
        residual in any::<bool>(),
        apart in any::<bool>(),
        activation in prop::sample::select(&ACTIVATIONS[..]),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        // Sums of about 1, where the activations bend.
        let w = random.numbers(n * k, 3.0 / (k as f32).sqrt());
        let b = random.numbers(n, 1.0);
        let (x_width, r_width) = if apart { (k + 5, n + 3) } else { (k, n) };
        let (x, r) = (random.numbers(m * x_width, 1.0), random.numbers(m * r_width, 1.0));
        let shift = |width, used| if width == used { 0 } else { 2 };
        let (x_start, r_start) = (shift(x_width, k), shift(r_width, n));

        let linear = Linear::new(&tensor(&w, (n, k)), bias.then(|| tensor(&b, n)).as_ref(), activation).unwrap();
        let input = slice(&tensor(&x, (m, x_width)), x_start, k);
        let got = if residual {
            linear.forward_with_residual(&input, &slice(&tensor(&r, (m, r_width)), r_start, n))
        } else {
            linear.forward(&input)
        }.unwrap();

        prop_assert_eq!(got.dims(), &[m, n]);
        prop_assert_eq!(linear.out_features(), n);
        let composed = Linear::new(&float64(&tensor(&w, (n, k))), bias.then(|| float64(&tensor(&b, n))).as_ref(), activation).unwrap();
        let composed = if residual {
            composed.forward_with_residual(&float64(&input), &float64(&slice(&tensor(&r, (m, r_width)), r_start, n)))
        } else {
            composed.forward(&float64(&input))
        }.unwrap();
        prop_assert!(worst(&values(&got), &values(&composed)) < 4e-6);
        let want = rounded((0..m * n).map(|place| {
            let (i, j) = (place / n, place % n);
            let products = (0..k).map(|l| f64::from(x[i * x_width + x_start + l]) * f64::from(w[j * k + l]));
            let sum = products.sum::<f64>() + if bias { f64::from(b[j]) } else { 0.0 };
            activate(activation, sum) + if residual { f64::from(r[i * r_width + r_start + j]) } else { 0.0 }
        }));
        let difference = worst(&values(&got), &want);
        prop_assert!(difference < 4e-6, "{} off by {:e}", format!("{activation:?}"), difference);
    }

    #[test]
    fn attention_is_the_float64_loop(
        texts in ragged(),
        (shared, key_heads) in (1usize..4, 1usize..4),
        head_size in 1usize..20,
        mask in masks(),
        size in prop::sample::select(&[1.0f32, 4.0][..]),
        seed in any::<u64>(),
    ) {
        let batch = batch(&texts);
        let heads = Heads { query: shared * key_heads, key_value: key_heads, size: head_size };
        let (wide, narrow) = heads.widths();
        let (rows, width) = (batch.ids().len(), wide + 2 * narrow);
        let data = Random(seed).numbers(rows * width, size);
        let qkv = tensor(&data, (rows, width));
        let parts = [slice(&qkv, 0, wide), slice(&qkv, wide, narrow), slice(&qkv, wide + narrow, narrow)];
        let run = |parts: &[Tensor; 3], batch: &Batch| attention(&parts[0], &parts[1], &parts[2], heads, mask, batch).unwrap();
        let got = run(&parts, &batch);

        let at = |row: usize, column: usize| f64::from(data[row * width + column]);
        let mut want = vec![0.0; rows * wide];
        for (start, count, attended) in batch.texts() {
            for (head, row) in (0..heads.query).flat_map(|head| (0..count).map(move |row| (head, row))) {
                let (query, key) = (head * head_size, wide + head / shared * head_size);
                let logit = |other| (0..head_size).map(|c| at(start + row, query + c) * at(start + other, key + c)).sum::<f64>();
                let seen: Vec<usize> = (0..attended).filter(|&other| sees(mask, row, other)).collect();
                let weights: Vec<f64> = seen.iter().map(|&other| (logit(other) / (head_size as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in 0..head_size {
                    let sum = seen.iter().zip(&weights).map(|(&other, w)| w / total * at(start + other, key + narrow + c));
                    want[(start + row) * wide + query + c] = sum.sum();
                }
            }
        }
        let difference = worst(&values(&got), &rounded(want));
        // The error of a weight is that of its logit, and logits grow with the square of the values.
        prop_assert!(difference < 2e-6 * size.powi(3), "off by {difference:e}");

        // candle's own operations in float64, as a GPU would compute it.
        let wide_parts = parts.each_ref().map(float64);
        prop_assert!(worst(&values(&got), &values(&run(&wide_parts, &batch))) < 2e-6 * size.powi(3));

        // A text alone is the same text beside others.
        for (index, (start, count, _)) in batch.texts().enumerate() {
            let own = parts.each_ref().map(|part| part.narrow(0, start, count).unwrap());
            let alone = run(&own, &self::batch(&texts[index..=index]));
            let beside = got.narrow(0, start, count).unwrap();
            prop_assert!(worst(&values(&alone), &values(&beside)) < 1e-6);
        }
    }

    #[test]
    fn rows_nobody_attends_to_change_nobody_elses(
        (rows, attended) in (2usize..40).prop_flat_map(|rows| (Just(rows), 1..rows)),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let data = random.numbers(rows * 12, 1.0);
        let mut changed = data.clone();
        changed[attended * 12..].iter_mut().for_each(|x| *x = 50.0 - *x);
        let run = |data: &[f32]| {
            let x = tensor(data, (rows, 12));
            let out = attention(&x, &x, &x, Heads::equal(3, 4), Mask::Bidirectional, &batch(&[(rows, attended)])).unwrap();
            values(&out.narrow(0, 0, attended).unwrap())
        };
        prop_assert_eq!(run(&data), run(&changed));
    }

    #[test]
    fn layer_norm_is_the_float64_loop(
        (rows, width) in (1usize..20, 2usize..200),
        offset in -20f32..20.0,
        eps in prop::sample::select(&[1e-12, 1e-5, 0.1][..]),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let x: Vec<f32> = random.numbers(rows * width, 2.0).iter().map(|x| x + offset).collect();
        let (w, b) = (random.numbers(width, 2.0), random.numbers(width, 1.0));
        let biased = x.len().is_multiple_of(2);
        let bias = biased.then(|| tensor(&b, width));
        let norm = LayerNorm::new(&tensor(&w, width), bias.as_ref(), eps).unwrap();
        let got = values(&norm.forward(&tensor(&x, (rows, width))).unwrap());
        let composed = LayerNorm::new(&float64(&tensor(&w, width)), bias.as_ref().map(float64).as_ref(), eps).unwrap();
        let composed = values(&composed.forward(&float64(&tensor(&x, (rows, width)))).unwrap());
        for ((row, got), composed) in x.chunks(width).zip(got.chunks(width)).zip(composed.chunks(width)) {
            let count = width as f64;
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
            let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
            let spread = (variance + eps).sqrt();
            let want = rounded(row.iter().zip(&w).zip(&b).map(|((x, w), b)| {
                (f64::from(*x) - mean) / spread * f64::from(*w) + if biased { f64::from(*b) } else { 0.0 }
            }));
            // What float32 loses in x - mean is divided by the spread.
            let bound = 4e-6 * (1.0 + (offset.abs() + 2.0) / spread as f32 * 0.5);
            let difference = worst(got, &want);
            prop_assert!(difference < bound, "off by {difference:e}, spread {spread}");
            prop_assert!(worst(composed, &want) < 1e-5);
        }
    }

    #[test]
    fn rope_keeps_lengths_and_depends_on_distance_only(
        half in 1usize..20,
        (i, j, shift) in (0usize..40, 0usize..40, 0usize..40),
        theta in prop::sample::select(&[100.0, 10_000.0, 160_000.0][..]),
        seed in any::<u64>(),
    ) {
        let head_size = 2 * half;
        let mut random = Random(seed);
        let (q, k) = (random.numbers(head_size, 1.0), random.numbers(head_size, 1.0));
        let rope = Rope::new(head_size, theta).unwrap();
        // The same row at every position of one text.
        let rotated = |row: &[f32]| {
            let x = tensor(&row.repeat(80), (80, head_size));
            rope.forward(&x, &batch(&[(80, 80)])).unwrap().to_vec2::<f32>().unwrap()
        };
        let (q, k, plain) = (rotated(&q), rotated(&k), q);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        prop_assert_eq!(&q[0], &plain);
        prop_assert!((dot(&q[i], &q[i]) - dot(&plain, &plain)).abs() < 1e-5);
        prop_assert!((dot(&q[i], &k[j]) - dot(&q[i + shift], &k[j + shift])).abs() < 1e-5);
    }

    #[test]
    fn rope_is_candles_and_begins_anew_in_every_text(
        (heads, half) in (1usize..5, 1usize..20),
        lengths in prop::collection::vec(1usize..30, 1..4),
        seed in any::<u64>(),
    ) {
        let (head_size, theta) = (2 * half, 10_000f64);
        let width = heads * head_size;
        let texts: Vec<_> = lengths.iter().map(|&n| (n, n)).collect();
        let batch = batch(&texts);
        let rows = batch.ids().len();
        let x = tensor(&Random(seed).numbers(rows * width, 1.0), (rows, width));
        let got = Rope::new(head_size, theta).unwrap().forward(&x, &batch).unwrap();
        let composed = Rope::new(head_size, theta).unwrap().forward(&float64(&x), &batch).unwrap();
        prop_assert!(worst(&values(&got), &values(&composed)) < 1e-6);

        let table = |f: fn(f64) -> f64| {
            let speed = |i: usize| theta.powf(-2.0 * i as f64 / head_size as f64);
            let angle = |place: usize| (place / half) as f64 * speed(place % half);
            tensor(&rounded((0..30 * half).map(|place| f(angle(place)))), (30, half))
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        for (start, count, _) in batch.texts() {
            let own = x.narrow(0, start, count).unwrap();
            let own = own.reshape((1, count, heads, head_size)).unwrap().transpose(1, 2).unwrap();
            let want = candle_nn::rotary_emb::rope_slow(&own.contiguous().unwrap(), &cos, &sin).unwrap();
            let want = want.transpose(1, 2).unwrap().contiguous().unwrap();
            // Angles are float32 products here, as in transformers, and float64 ones there.
            prop_assert!(worst(&values(&got.narrow(0, start, count).unwrap()), &values(&want)) < 4e-6);
        }
    }

    #[test]
    fn embedding_is_the_sum_of_three_rows(
        texts in prop::collection::vec(prop::collection::vec(0u32..50, 0..12), 1..5),
        width in 1usize..30,
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let (words, positions, types) =
            (random.numbers(50 * width, 1.0), random.numbers(12 * width, 1.0), random.numbers(2 * width, 1.0));
        let (rows, types_) = (tensor(&positions, (12, width)), tensor(&types, (2, width)));
        let embedding = Embedding::new(tensor(&words, (50, width))).unwrap();
        let embedding = embedding.with_positions(&rows, Some(&types_), Numbering::FromZero).unwrap();
        let batch = Batch::new(texts.iter().map(|ids| (ids.as_slice(), ids.len()))).unwrap();
        let got = embedding.forward(&batch).unwrap();
        let composed = Embedding::new(float64(&tensor(&words, (50, width)))).unwrap();
        let composed = composed.with_positions(&float64(&rows), Some(&float64(&types_)), Numbering::FromZero).unwrap();
        prop_assert!(worst(&values(&got), &values(&composed.forward(&batch).unwrap())) < 1e-6);
        let want: Vec<f32> = texts
            .iter()
            .flat_map(|ids| ids.iter().enumerate())
            .flat_map(|(position, id)| (0..width).map(move |c| (position, *id as usize, c)))
            .map(|(position, id, c)| words[id * width + c] + (positions[position * width + c] + types[c]))
            .collect();
        prop_assert_eq!(got.dims(), &[texts.iter().map(Vec::len).sum::<usize>(), width]);
        prop_assert_eq!(values(&got), want);
    }

    #[test]
    fn rms_norm_is_the_float64_loop_head_by_head(
        (rows, heads, features) in (1usize..20, 1usize..5, 1usize..70),
        eps in prop::sample::select(&[1e-6, 1e-5, 0.1][..]),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let (x, w) = (random.numbers(rows * heads * features, 2.0), random.numbers(features, 2.0));
        let input = tensor(&x, (rows, heads * features));
        let norm = RmsNorm::new(&tensor(&w, features), eps).unwrap();
        let got = values(&norm.forward(&input).unwrap());
        let want = rounded(x.chunks(features).flat_map(|run| {
            let mean = run.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / features as f64;
            run.iter().zip(&w).map(move |(x, w)| f64::from(*x) / (mean + eps).sqrt() * f64::from(*w))
        }));
        prop_assert!(worst(&got, &want) < 4e-6);
        let composed = RmsNorm::new(&float64(&tensor(&w, features)), eps).unwrap();
        prop_assert!(worst(&values(&composed.forward(&float64(&input)).unwrap()), &want) < 1e-6);
    }

    #[test]
    fn a_gate_is_the_float64_loop(
        (rows, half) in (1usize..20, 1usize..70),
        activation in prop::sample::select(&ACTIVATIONS[..]),
        seed in any::<u64>(),
    ) {
        let x = Random(seed).numbers(rows * 2 * half, 3.0);
        let input = tensor(&x, (rows, 2 * half));
        let got = gate(&input, activation).unwrap();
        prop_assert_eq!(got.dims(), &[rows, half]);
        let want = rounded(x.chunks(2 * half).flat_map(|row| {
            let (input, gate) = row.split_at(half);
            input.iter().zip(gate).map(|(x, g)| activate(activation, f64::from(*x)) * f64::from(*g))
        }));
        prop_assert!(worst(&values(&got), &want) < 4e-6);
        prop_assert!(worst(&values(&gate(&float64(&input), activation).unwrap()), &want) < 4e-6);
    }

    #[test]
    fn a_short_convolution_is_the_float64_loop(
        texts in ragged(),
        (features, taps) in (1usize..30, 1usize..6),
        biased in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let batch = batch(&texts);
        let mut random = Random(seed);
        let rows = batch.ids().len();
        let (x, w, b) =
            (random.numbers(rows * 3 * features, 1.0), random.numbers(features * taps, 1.0), random.numbers(features, 1.0));
        let (input, weight) = (tensor(&x, (rows, 3 * features)), tensor(&w, (features, 1, taps)));
        let bias = biased.then(|| tensor(&b, features));
        let got = ShortConv::new(&weight, bias.as_ref()).unwrap().forward(&input, &batch).unwrap();
        let at = |row: usize, part: usize, c: usize| f64::from(x[row * 3 * features + part * features + c]);
        let mut want = Vec::new();
        for (start, count, _) in batch.texts() {
            for (row, c) in (0..count).flat_map(|row| (0..features).map(move |c| (row, c))) {
                // Tap k meets the token k - (taps - 1) places away; before the text there is nothing.
                let reached = (0..taps).filter_map(|k| Some((k, (row + k + 1).checked_sub(taps)?)));
                let sum: f64 = reached
                    .map(|(k, from)| f64::from(w[c * taps + k]) * at(start + from, 0, c) * at(start + from, 2, c))
                    .sum();
                want.push((sum + if biased { f64::from(b[c]) } else { 0.0 }) * at(start + row, 1, c));
            }
        }
        prop_assert!(worst(&values(&got), &rounded(want)) < 4e-6);
        let composed = ShortConv::new(&float64(&weight), bias.as_ref().map(float64).as_ref()).unwrap();
        prop_assert!(worst(&values(&got), &values(&composed.forward(&float64(&input), &batch).unwrap())) < 4e-6);
    }

    #[test]
    fn only_rows_that_are_not_attended_to_are_blanked(texts in ragged(), width in 1usize..9, seed in any::<u64>()) {
        let batch = batch(&texts);
        let rows = batch.ids().len();
        let mut want = Random(seed).numbers(rows * width, 1.0);
        let input = tensor(&want, (rows, width));
        for (start, count, attended) in batch.texts() {
            want[(start + attended) * width..(start + count) * width].fill(0.0);
        }
        prop_assert_eq!(&values(&blank_unattended(&input, &batch).unwrap()), &want);
        prop_assert_eq!(&values(&blank_unattended(&float64(&input), &batch).unwrap()), &want);
    }

    /// transformers' `create_position_ids_from_input_ids`.
    #[test]
    fn positions_past_padding_count_other_ids(ids in prop::collection::vec(0u32..5, 1..20), padding in 0u32..4) {
        let table: Vec<f32> = (0..30).map(|row| row as f32).collect();
        let embedding = Embedding::new(tensor(&[0.0; 5], (5, 1))).unwrap();
        let embedding =
            embedding.with_positions(&tensor(&table, (30, 1)), None, Numbering::PastPadding(padding)).unwrap();
        let batch = Batch::new([(&ids[..], ids.len()), (&ids[..], 1)]).unwrap();
        let got = values(&embedding.forward(&batch).unwrap());
        let mut count = 0;
        let want = ids.iter().map(|&id| {
            count += u32::from(id != padding);
            if id == padding { padding as f32 } else { (count + padding) as f32 }
        });
        let want: Vec<f32> = want.collect();
        prop_assert_eq!(got, [&want[..], &want[..]].concat());
    }
}

/// More rows than a block of the kernel has, so that blocks meet in the middle of a text.
#[test]
fn attention_over_long_texts_is_the_composed_one() {
    let texts = [(700, 650), (300, 300)];
    let batch = batch(&texts);
    let x = tensor(&Random(3).numbers(1000 * 24, 1.0), (1000, 24));
    let parts = [slice(&x, 0, 8), slice(&x, 8, 8), slice(&x, 16, 8)];
    for mask in [Mask::Bidirectional, Mask::Causal, Mask::Window(5), Mask::Window(300)] {
        let run = |parts: &[Tensor; 3]| {
            values(&attention(&parts[0], &parts[1], &parts[2], Heads::equal(2, 4), mask, &batch).unwrap())
        };
        let got = run(&parts);
        assert!(worst(&got, &run(&parts.each_ref().map(float64))) < 2e-6, "{mask:?}");
    }
}

#[test]
fn activations_hold_far_out() {
    for activation in ACTIVATIONS {
        let xs: Vec<f32> = (-400..=400).map(|i| i as f32 * 0.05).chain([-1e4, -90.0, 90.0, 1e4]).collect();
        let want = rounded(xs.iter().map(|x| activate(activation, f64::from(*x))));
        // A gate of ones leaves the activation.
        let row = [xs.clone(), vec![1.0; xs.len()]].concat();
        let got = values(&gate(&tensor(&row, (1, row.len())), activation).unwrap());
        for ((x, got), want) in xs.iter().zip(got).zip(want) {
            assert!((got - want).abs() <= 3e-7 * x.abs().max(2.0), "{activation:?} of {x}: {got} for {want}");
        }
    }
}

#[test]
fn attention_of_huge_logits_stays_finite() {
    let x = tensor(&[1e4, -1e4, 1e4, 1e4], (4, 1));
    let out =
        values(&attention(&x, &x, &x, Heads::equal(1, 1), Mask::Bidirectional, &batch(&[(4, 4)])).unwrap());
    assert!(worst(&out, &[1e4, -1e4, 1e4, 1e4]) < 1e-2, "{out:?}");
}

#[test]
fn no_rows_are_no_rows() {
    let empty = |width: usize| Tensor::zeros((0, width), DType::F32, &Device::Cpu).unwrap();
    let linear = Linear::new(&tensor(&[1.0; 6], (2, 3)), None, Activation::Gelu).unwrap();
    assert_eq!(linear.forward(&empty(3)).unwrap().dims(), [0, 2]);
    let out = attention(
        &empty(4),
        &empty(4),
        &empty(4),
        Heads::equal(2, 2),
        Mask::Causal,
        &Batch::new([]).unwrap(),
    )
    .unwrap();
    assert_eq!(out.dims(), [0, 4]);
}

/// Collects what was neither computed nor refused with an error, so that one run names them all.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn refused<T>(&mut self, what: &str, f: impl FnOnce() -> candle_core::Result<T>) {
        match panics(f) {
            Ok(Err(_)) => {}
            Ok(Ok(_)) => self.0.push(format!("{what}: accepted")),
            Err(panic) => self.0.push(format!("{what}: panics: {panic}")),
        }
    }

    fn done(self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let mut faults = Faults::default();
    let x = |rows: usize, width: usize| tensor(&vec![0.5; rows * width], (rows, width));
    let linear = Linear::new(&x(2, 3), None, Activation::Gelu).unwrap();
    faults.refused("linear: width", || linear.forward(&x(4, 2)));
    faults.refused("linear: rank", || linear.forward(&tensor(&[0.5; 12], (2, 2, 3))));
    faults.refused("linear: columns apart", || linear.forward(&x(3, 4).t()?));
    faults.refused("linear: residual width", || linear.forward_with_residual(&x(4, 3), &x(4, 3)));
    faults.refused("linear: residual rows", || linear.forward_with_residual(&x(4, 3), &x(5, 2)));
    faults.refused("linear: weight rank", || Linear::new(&tensor(&[1.0], 1), None, Activation::Gelu));
    faults.refused("linear: dtype", || linear.forward(&x(4, 3).to_dtype(DType::F64)?));

    let norm = LayerNorm::new(&tensor(&[1.0; 3], 3), Some(&tensor(&[0.0; 3], 3)), 1e-5).unwrap();
    faults.refused("layer norm: width", || norm.forward(&x(4, 2)));

    let four = batch(&[(3, 2), (1, 1)]);
    let attend =
        |q: &Tensor, k: &Tensor, v: &Tensor, heads| attention(q, k, v, heads, Mask::Bidirectional, &four);
    let two = Heads::equal(2, 2);
    faults.refused("attention: too few rows", || attend(&x(3, 4), &x(3, 4), &x(3, 4), two));
    faults.refused("attention: too few keys", || attend(&x(4, 4), &x(3, 4), &x(4, 4), two));
    faults.refused("attention: widths", || attend(&x(4, 4), &x(4, 2), &x(4, 4), two));
    faults.refused("attention: heads", || attend(&x(4, 4), &x(4, 4), &x(4, 4), Heads::equal(3, 2)));
    let shared = Heads { query: 3, key_value: 2, size: 1 };
    faults.refused("attention: shared heads", || attend(&x(4, 3), &x(4, 2), &x(4, 2), shared));

    let rms = RmsNorm::new(&tensor(&[1.0; 3], 3), 1e-5).unwrap();
    faults.refused("rms norm: width", || rms.forward(&x(4, 4)));
    faults.refused("gate: odd width", || gate(&x(4, 3), Activation::Silu));
    let conv = ShortConv::new(&tensor(&[1.0; 6], (2, 1, 3)), None).unwrap();
    faults.refused("short convolution: width", || conv.forward(&x(4, 5), &four));
    faults.refused("short convolution: rows", || conv.forward(&x(3, 6), &four));
    faults.refused("blank: rows", || blank_unattended(&x(3, 6), &four));

    let rope = Rope::new(4, 1e4).unwrap();
    faults.refused("rope: width", || rope.forward(&x(4, 6), &four));
    faults.refused("rope: rows", || rope.forward(&x(3, 4), &four));

    let embedding = Embedding::new(x(5, 4)).unwrap();
    let embedding = embedding.with_positions(&x(3, 4), Some(&x(2, 4)), Numbering::FromZero).unwrap();
    faults.refused("embedding: id", || embedding.forward(&Batch::new([(&[5u32][..], 1)]).unwrap()));
    faults.refused("embedding: position", || embedding.forward(&Batch::new([(&[0u32; 4][..], 4)]).unwrap()));
    faults.done();
}

#[test]
fn weights_that_do_not_fit_each_other_are_errors() {
    let mut faults = Faults::default();
    let x = |rows: usize, width: usize| tensor(&vec![0.5; rows * width], (rows, width));
    let one = |len: usize| tensor(&vec![0.5; len], len);
    for bias in [1, 3] {
        faults.refused("linear: bias", || {
            Linear::new(&x(2, 3), Some(&one(bias)), Activation::Gelu)?.forward(&x(4, 3))
        });
        faults.refused("layer norm: bias", || {
            LayerNorm::new(&one(2), Some(&one(bias)), 1e-5)?.forward(&x(4, 2))
        });
        faults.refused("embedding: widths", || {
            Embedding::new(x(5, 2))?
                .with_positions(&x(6, bias), Some(&x(2, bias)), Numbering::FromZero)?
                .forward(&Batch::new([(&[0u32][..], 1)]).unwrap())
        });
    }
    faults.refused("embedding: types", || {
        Embedding::new(x(5, 4))?.with_positions(&x(4, 4), Some(&x(2, 2)), Numbering::FromZero)
    });
    faults.done();
}

#[test]
fn attention_that_cannot_be_is_an_error() {
    let mut faults = Faults::default();
    let x = tensor(&[0.5; 16], (4, 4));
    let run = |heads| attention(&x, &x, &x, heads, Mask::Bidirectional, &batch(&[(4, 4)]));
    faults.refused("no heads", || run(Heads::equal(0, 4)));
    faults.refused("no key heads", || run(Heads { query: 1, key_value: 0, size: 4 }));
    faults.done();
    for (rows, attended) in [(2, 3), (4, 0), (0, 1)] {
        assert!(matches!(Batch::new([(&[0u32; 4][..rows], attended)]), Err(chandelier::Error::Shape { .. })));
    }
}

#[test]
fn sizes_of_nothing_are_errors() {
    let mut faults = Faults::default();
    let zeros = |rows: usize, width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu);
    faults.refused("embedding of no features", || Embedding::new(zeros(5, 0)?));
    for (outputs, inputs) in [(0, 3), (3, 0)] {
        faults.refused("linear of nothing", || {
            Linear::new(&zeros(outputs, inputs)?, None, Activation::Identity)?.forward(&zeros(2, inputs)?)
        });
    }
    let x = tensor(&[0.5; 12], (2, 6));
    for head_size in [0, 1, 3] {
        faults.refused(&format!("rope of heads of {head_size}"), || {
            Rope::new(head_size, 1e4)?.forward(&x, &batch(&[(2, 2)]))
        });
    }
    faults.done();
}
