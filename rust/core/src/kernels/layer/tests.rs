use super::*;
use crate::kernels::numbers;

/// Sums in the order of the depth, in double precision.
fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

#[test]
fn every_path_is_the_float64_loop_at_every_size() {
    for simd in Simd::available() {
        for (count, inputs, outputs) in (1..=70).map(|n| (n, 1 + n * 13 % 71, 1 + n * 29 % 97)) {
            let (biased, residual) = (count % 3 > 0, count % 2 > 0);
            let weights = numbers(1, outputs * inputs);
            let (bias, added) = (numbers(2, outputs), numbers(3, count * (outputs + 2)));
            // Rows that stand apart, as those of a column slice do.
            let x = numbers(4, count * (inputs + 5));
            let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
            let relu = Activation::Relu;
            let layer =
                Layer::pack(simd, Precision::Float32, &rows, biased.then_some(&bias[..]), relu, Vec::new());
            assert_eq!((layer.inputs(), layer.outputs()), (inputs, outputs));
            let got = layer.apply(
                Rows::new(&x, count, inputs, inputs + 5),
                residual.then(|| Rows::new(&added, count, outputs, outputs + 2)),
            );
            assert_eq!(got.len(), count * outputs);
            for (place, got) in got.iter().enumerate() {
                let (row, column) = (place / outputs, place % outputs);
                let sum = dot(&x[row * (inputs + 5)..][..inputs], rows[column]);
                let sum = sum + if biased { f64::from(bias[column]) } else { 0.0 };
                let added = if residual { f64::from(added[row * (outputs + 2) + column]) } else { 0.0 };
                let want = sum.max(0.0) + added;
                let difference = (f64::from(*got) - want).abs();
                assert!(
                    difference < 4e-6,
                    "{} {count} x {inputs} x {outputs}: {got} for {want}",
                    simd.name()
                );
            }
        }
    }
}

#[test]
fn a_row_comes_out_the_same_in_any_company_and_team_on_any_thread() {
    let (inputs, outputs) = (131, 170);
    let (weights, x) = (numbers(5, inputs * outputs), numbers(6, 600 * inputs));
    let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
    let precisions = [Precision::Float32, Precision::BFloat16, Precision::Int8];
    for (simd, precision) in Simd::available().into_iter().flat_map(|simd| precisions.map(|p| (simd, p))) {
        let layer = Layer::pack(simd, precision, &rows, None, Activation::Gelu, Vec::new());
        let all = layer.apply(Rows::new(&x, 600, inputs, inputs), None);
        let name = format!("{} {precision:?}", simd.name());
        let shared = crate::team::with(3, || layer.apply(Rows::new(&x, 600, inputs, inputs), None));
        assert_eq!(shared, all, "{name}");
        let agree = |(start, count): (usize, usize)| {
            let some = layer.apply(Rows::new(&x[start * inputs..], count, inputs, inputs), None);
            assert_eq!(some, all[start * outputs..][..count * outputs], "{name} {start} {count}");
        };
        let parts = [(0, 1), (599, 1), (7, 16), (3, 25), (9, 33), (50, 100), (300, 300)];
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| parts.into_iter().for_each(agree));
            }
        });
    }
}

#[test]
fn instructions_that_add_a_product_in_one_rounding_agree() {
    let (inputs, outputs) = (77, 45);
    let (weights, x) = (numbers(7, inputs * outputs), numbers(8, 20 * inputs));
    let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
    let fused = |simd: &Simd| !["portable", "simd128"].contains(&simd.name());
    let mut results = Simd::available().into_iter().filter(fused).map(|simd| {
        let layer =
            Layer::pack(simd, Precision::Float32, &rows, Some(&x[..outputs]), Activation::Silu, Vec::new());
        layer.apply(Rows::new(&x, 20, inputs, inputs), None)
    });
    if let Some(first) = results.next() {
        assert!(results.all(|other| other == first));
    }
}

/// A layer without a bias, as wide as there are rows.
fn plain(simd: Simd, precision: Precision, weights: &[f32], inputs: usize) -> Layer {
    let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
    Layer::pack(simd, precision, &rows, None, Activation::Identity, Vec::new())
}

/// Numbers from `least` to `most`, both of them in every row of `width`.
fn whole_numbers(seed: u32, count: usize, width: usize, least: i32, most: i32) -> Vec<f32> {
    let spread = (most - least) as f32 / 2.0;
    let middle = (most + least) as f32 / 2.0;
    let mut values: Vec<f32> =
        numbers(seed, count * width).iter().map(|x| (middle + x * spread).round()).collect();
    for row in values.chunks_exact_mut(width) {
        row[0] = least as f32;
        row[width - 1] = most as f32;
    }
    values
}

#[test]
fn whole_numbers_are_multiplied_without_an_error_in_every_precision_on_every_path() {
    for simd in Simd::available() {
        // Odd numbers of inputs, which are not turned before they are rounded.
        for (count, inputs, outputs) in (1..=70).map(|n| (n, 3 + n * 26 % 142, 1 + n * 29 % 97)) {
            for (precision, least, most) in [
                (Precision::Float32, -100, 155),
                (Precision::BFloat16, -100, 155),
                (Precision::Int8, -100, 155),
                (Precision::Int8, 0, 255),
                (Precision::Int8, -255, 0),
            ] {
                let weights = whole_numbers(5, outputs, inputs, -127, 127);
                let x = whole_numbers(6, count, inputs, least, most);
                let got = plain(simd, precision, &weights, inputs)
                    .apply(Rows::new(&x, count, inputs, inputs), None);
                let want = x
                    .chunks_exact(inputs)
                    .flat_map(|x| weights.chunks_exact(inputs).map(move |w| dot(x, w) as f32));
                let want: Vec<f32> = want.collect();
                assert_eq!(got, want, "{} {precision:?} {count} x {inputs} x {outputs}", simd.name());
            }
        }
    }
}

#[test]
fn what_rounding_costs_is_bounded() {
    let (count, inputs, outputs) = (40, 384, 50);
    let (weights, x) = (numbers(7, outputs * inputs), numbers(8, count * inputs));
    for (simd, (precision, bound)) in Simd::available()
        .into_iter()
        .flat_map(|simd| [(Precision::BFloat16, 0.06), (Precision::Int8, 0.3)].map(|p| (simd, p)))
    {
        let got = plain(simd, precision, &weights, inputs).apply(Rows::new(&x, count, inputs, inputs), None);
        for (place, got) in got.iter().enumerate() {
            let (row, column) = (place / outputs * inputs, place % outputs * inputs);
            let want = dot(&x[row..row + inputs], &weights[column..column + inputs]);
            let difference = (f64::from(*got) - want).abs();
            // Sums of 384 errors, each up to half a step, of either sign.
            assert!(difference < bound, "{} {precision:?}: {got} for {want}", simd.name());
            assert!(difference < 1e-9 || f64::from(*got) != want);
        }
    }
}

#[test]
fn whole_numbers_give_the_same_bits_wherever_products_are_added_in_one_rounding() {
    let (inputs, outputs) = (77, 45);
    let (weights, x) = (numbers(7, inputs * outputs), numbers(8, 20 * inputs));
    let fused = |simd: &Simd| !["portable", "simd128"].contains(&simd.name());
    let mut results = Simd::available().into_iter().filter(fused).map(|simd| {
        plain(simd, Precision::Int8, &weights, inputs).apply(Rows::new(&x, 20, inputs, inputs), None)
    });
    if let Some(first) = results.next() {
        assert!(results.all(|other| other == first));
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn tiles_multiply_where_they_are_permitted() {
    use crate::kernels::{amx, product::instructions};
    let named = |name| Simd::available().into_iter().find(|simd| simd.name() == name);
    assert_eq!(named("amx").is_some(), named("avx512").is_some() && amx::exists());
    if let Some(simd) = named("amx") {
        let [single, bfloat, whole] = [Precision::Float32, Precision::BFloat16, Precision::Int8]
            .map(|precision| instructions(simd, precision));
        assert_eq!([single, simd.without_tiles().name()], ["avx512"; 2]);
        assert_eq!([bfloat, whole].map(|name| name == "amx"), [amx::is_permitted(); 2]);
    }
}

#[test]
fn what_is_not_finite_is_not_hidden_and_spoils_no_other_row() {
    let (count, inputs, outputs) = (5, 40, 33);
    let cases = [Precision::Float32, Precision::BFloat16, Precision::Int8];
    for (simd, precision) in Simd::available().into_iter().flat_map(|simd| cases.map(|p| (simd, p))) {
        for damage in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (weights, mut x) = (numbers(9, outputs * inputs), numbers(10, count * inputs));
            let run = |weights: &[f32], x: &[f32]| {
                plain(simd, precision, weights, inputs).apply(Rows::new(x, count, inputs, inputs), None)
            };
            let sound = run(&weights, &x);
            x[2 * inputs + 17] = damage;
            let damaged = run(&weights, &x);
            for (row, (got, sound)) in
                damaged.chunks_exact(outputs).zip(sound.chunks_exact(outputs)).enumerate()
            {
                let spoilt = got.iter().all(|y| !y.is_finite());
                assert!(if row == 2 { spoilt } else { got == sound }, "{} {precision:?}", simd.name());
            }
            let mut weights = weights;
            weights[3 * inputs + 5] = damage;
            let x = numbers(10, count * inputs);
            let damaged = run(&weights, &x);
            for (place, (got, sound)) in damaged.iter().zip(&sound).enumerate() {
                assert!(if place % outputs == 3 { !got.is_finite() } else { got == sound });
            }
        }
    }
}

#[test]
fn rows_and_weights_of_zeros_give_the_bias() {
    for simd in Simd::available() {
        for precision in [Precision::Float32, Precision::BFloat16, Precision::Int8] {
            let (zeros, bias) = (vec![0.0; 6 * 9], numbers(1, 6));
            let rows: Vec<&[f32]> = zeros.chunks_exact(9).collect();
            let layer = Layer::pack(simd, precision, &rows, Some(&bias), Activation::Identity, Vec::new());
            let x = [vec![0.0; 9], numbers(2, 9)].concat();
            assert_eq!(layer.apply(Rows::new(&x, 2, 9, 9), None), bias.repeat(2));
        }
    }
}

#[test]
fn rows_too_small_to_divide_by_are_zero_and_not_nan() {
    let (inputs, outputs) = (64, 33);
    for (simd, small) in Simd::available().into_iter().flat_map(|simd| [1e-37, 1e-42].map(|x| (simd, x))) {
        for precision in [Precision::Float32, Precision::BFloat16, Precision::Int8] {
            let [weights, x] = [7, 8].map(|seed| numbers(seed, outputs * inputs));
            let tiny = |values: &[f32]| values.iter().map(|value| value * small).collect::<Vec<_>>();
            for (weights, x) in
                [(weights.clone(), tiny(&x)), (tiny(&weights), x.clone()), (tiny(&weights), tiny(&x))]
            {
                let rows: Vec<&[f32]> = weights.chunks_exact(inputs).collect();
                let layer = Layer::pack(simd, precision, &rows, None, Activation::Identity, Vec::new());
                let got = layer.apply(Rows::new(&x, outputs, inputs, inputs), None);
                let largest = got.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                assert!(
                    largest < 1e-35 && got.iter().all(|value| value.is_finite()),
                    "{} {precision:?} {small}",
                    simd.name()
                );
            }
        }
    }
}
