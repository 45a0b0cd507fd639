//! Laws of the operations that encoders are written with, against plain float64 loops.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{Device, Tensor};
use chandelier::Batch;
use chandelier::ops::{Activation, Embedding, LayerNorm, Linear, Rope, attention};
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
        heads in 1usize..5,
        head_size in 1usize..20,
        size in prop::sample::select(&[1.0f32, 4.0][..]),
        seed in any::<u64>(),
    ) {
        let batch = batch(&texts);
        let (rows, width) = (batch.ids().len(), heads * head_size);
        let mut random = Random(seed);
        let data = random.numbers(rows * 3 * width, size);
        let qkv = tensor(&data, (rows, 3 * width));
        let parts = [0, 1, 2].map(|part| slice(&qkv, part * width, width));
        let got = attention(&parts[0], &parts[1], &parts[2], heads, &batch).unwrap();

        let at = |part: usize, row: usize, column: usize| f64::from(data[row * 3 * width + part * width + column]);
        let mut want = vec![0.0; rows * width];
        for (start, count, attended) in batch.texts() {
            for (head, row) in (0..heads).flat_map(|head| (start..start + count).map(move |row| (head, row))) {
                let columns = head * head_size..(head + 1) * head_size;
                let logit = |key| columns.clone().map(|c| at(0, row, c) * at(1, key, c)).sum::<f64>();
                let keys = start..start + attended;
                let weights: Vec<f64> =
                    keys.clone().map(|key| (logit(key) / (head_size as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in columns.clone() {
                    want[row * width + c] =
                        keys.clone().zip(&weights).map(|(key, w)| w / total * at(2, key, c)).sum();
                }
            }
        }
        let difference = worst(&values(&got), &rounded(want));
        // The error of a weight is that of its logit, and logits grow with the square of the values.
        prop_assert!(difference < 2e-6 * size.powi(3), "off by {difference:e}");

        // A text alone is the same text beside others.
        for (index, (start, count, _)) in batch.texts().enumerate() {
            let own = parts.each_ref().map(|part| part.narrow(0, start, count).unwrap());
            let alone = attention(&own[0], &own[1], &own[2], heads, &self::batch(&texts[index..=index])).unwrap();
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
            let out = attention(&x, &x, &x, 3, &batch(&[(rows, attended)])).unwrap();
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
        let norm = LayerNorm::new(&tensor(&w, width), &tensor(&b, width), eps).unwrap();
        let got = values(&norm.forward(&tensor(&x, (rows, width))).unwrap());
        for (row, got) in x.chunks(width).zip(got.chunks(width)) {
            let count = width as f64;
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
            let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
            let spread = (variance + eps).sqrt();
            let want = rounded(row.iter().zip(&w).zip(&b).map(|((x, w), b)| {
                (f64::from(*x) - mean) / spread * f64::from(*w) + f64::from(*b)
            }));
            // What float32 loses in x - mean is divided by the spread.
            let bound = 4e-6 * (1.0 + (offset.abs() + 2.0) / spread as f32 * 0.5);
            let difference = worst(got, &want);
            prop_assert!(difference < bound, "off by {difference:e}, spread {spread}");
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
        let rope = Rope::new(head_size, 80, theta).unwrap();
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
        let got = Rope::new(head_size, 30, theta).unwrap().forward(&x, &batch).unwrap();

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
            prop_assert!(worst(&values(&got.narrow(0, start, count).unwrap()), &values(&want)) < 1e-6);
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
        let embedding =
            Embedding::new(tensor(&words, (50, width)), &tensor(&positions, (12, width)), &tensor(&types, (2, width)))
                .unwrap();
        let got = embedding.forward(&Batch::new(texts.iter().map(|ids| (ids.as_slice(), ids.len()))).unwrap()).unwrap();
        let want: Vec<f32> = texts
            .iter()
            .flat_map(|ids| ids.iter().enumerate())
            .flat_map(|(position, id)| (0..width).map(move |c| (position, *id as usize, c)))
            .map(|(position, id, c)| words[id * width + c] + (positions[position * width + c] + types[c]))
            .collect();
        prop_assert_eq!(got.dims(), &[texts.iter().map(Vec::len).sum::<usize>(), width]);
        prop_assert_eq!(values(&got), want);
    }
}

#[test]
fn activations_hold_far_out() {
    for activation in ACTIVATIONS {
        let mut xs: Vec<f32> =
            (-400..=400).map(|i| i as f32 * 0.05).chain([-1e4, -90.0, 90.0, 1e4]).collect();
        let want = rounded(xs.iter().map(|x| activate(activation, f64::from(*x))));
        let before = xs.clone();
        activation.apply(&mut xs);
        for ((x, got), want) in before.iter().zip(&xs).zip(want) {
            assert!((got - want).abs() <= 3e-7 * x.abs().max(2.0), "{activation:?} of {x}: {got} for {want}");
        }
    }
}

#[test]
fn attention_of_huge_logits_stays_finite() {
    let x = tensor(&[1e4, -1e4, 1e4, 1e4], (4, 1));
    let out = values(&attention(&x, &x, &x, 1, &batch(&[(4, 4)])).unwrap());
    assert!(worst(&out, &[1e4, -1e4, 1e4, 1e4]) < 1e-2, "{out:?}");
}

#[test]
fn no_rows_are_no_rows() {
    let empty = |width: usize| Tensor::zeros((0, width), candle_core::DType::F32, &Device::Cpu).unwrap();
    let linear = Linear::new(&tensor(&[1.0; 6], (2, 3)), None, Activation::Gelu).unwrap();
    assert_eq!(linear.forward(&empty(3)).unwrap().dims(), [0, 2]);
    let out = attention(&empty(4), &empty(4), &empty(4), 2, &Batch::new([]).unwrap()).unwrap();
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
    faults.refused("linear: dtype", || linear.forward(&x(4, 3).to_dtype(candle_core::DType::F64)?));

    let norm = LayerNorm::new(&tensor(&[1.0; 3], 3), &tensor(&[0.0; 3], 3), 1e-5).unwrap();
    faults.refused("layer norm: width", || norm.forward(&x(4, 2)));

    let four = batch(&[(3, 2), (1, 1)]);
    faults.refused("attention: too few rows", || attention(&x(3, 4), &x(3, 4), &x(3, 4), 2, &four));
    faults.refused("attention: too few keys", || attention(&x(4, 4), &x(3, 4), &x(4, 4), 2, &four));
    faults.refused("attention: widths", || attention(&x(4, 4), &x(4, 2), &x(4, 4), 2, &four));
    faults.refused("attention: heads", || attention(&x(4, 4), &x(4, 4), &x(4, 4), 3, &four));

    let rope = Rope::new(4, 3, 1e4).unwrap();
    faults.refused("rope: width", || rope.forward(&x(4, 6), &four));
    faults.refused("rope: rows", || rope.forward(&x(3, 4), &four));
    faults.refused("rope: positions", || rope.forward(&x(4, 4), &batch(&[(4, 4)])));

    let embedding = Embedding::new(x(5, 4), &x(3, 4), &x(2, 4)).unwrap();
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
        faults.refused("layer norm: bias", || LayerNorm::new(&one(2), &one(bias), 1e-5)?.forward(&x(4, 2)));
        faults.refused("embedding: widths", || {
            Embedding::new(x(5, 2), &x(6, bias), &x(2, bias))?
                .forward(&Batch::new([(&[0u32][..], 1)]).unwrap())
        });
    }
    faults.refused("embedding: types", || Embedding::new(x(5, 4), &x(4, 4), &x(2, 2)));
    faults.done();
}

#[test]
fn attention_that_cannot_be_is_an_error() {
    let mut faults = Faults::default();
    let x = tensor(&[0.5; 16], (4, 4));
    let run = |heads, texts: &[(usize, usize)]| attention(&x, &x, &x, heads, &batch(texts));
    faults.refused("no heads", || run(0, &[(4, 4)]));
    faults.done();
    for (rows, attended) in [(2, 3), (4, 0), (0, 1)] {
        assert!(matches!(Batch::new([(&[0u32; 4][..rows], attended)]), Err(chandelier::Error::Shape { .. })));
    }
}

#[test]
fn sizes_of_nothing_are_errors() {
    let mut faults = Faults::default();
    let zeros =
        |rows: usize, width: usize| Tensor::zeros((rows, width), candle_core::DType::F32, &Device::Cpu);
    faults.refused("embedding of no features", || Embedding::new(zeros(5, 0)?, &zeros(3, 0)?, &zeros(2, 0)?));
    for (outputs, inputs) in [(0, 3), (3, 0)] {
        faults.refused("linear of nothing", || {
            Linear::new(&zeros(outputs, inputs)?, None, Activation::Identity)?.forward(&zeros(2, inputs)?)
        });
    }
    let x = tensor(&[0.5; 12], (2, 6));
    for head_size in [0, 1, 3] {
        faults.refused(&format!("rope of heads of {head_size}"), || {
            Rope::new(head_size, 4, 1e4)?.forward(&x, &batch(&[(2, 2)]))
        });
    }
    faults.done();
}
