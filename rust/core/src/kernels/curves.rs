//! Activation functions and the exponential, a register at a time.

use super::lanes::Lanes;

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x`
    Identity,
    /// `x * (1 + erf(x / sqrt 2)) / 2`, the exact one.
    Gelu,
    /// The tanh approximation of GELU, for models that were trained with it.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

/// A function of every number of a register, to be inlined where the instructions are.
pub(super) trait Curve: Copy {
    /// # Safety
    /// The instructions of `V` exist.
    unsafe fn at<V: Lanes>(self, x: V) -> V;
}

/// Evaluates an expression with the curve of an activation, compiled once for each.
macro_rules! with_curve {
    ($activation:expr, |$curve:ident| $value:expr) => {
        with_curve!($activation, $curve, $value, Identity Gelu GeluTanh Relu Silu Tanh Sigmoid)
    };
    ($activation:expr, $curve:ident, $value:expr, $($name:ident)*) => {
        match $activation {
            $($crate::kernels::Activation::$name => {
                let $curve = $crate::kernels::curves::$name;
                $value
            })*
        }
    };
}
pub(super) use with_curve;

/// Names functions of a register.
macro_rules! curves {
    ($($name:ident = $function:ident)*) => {
        $(#[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Curve for $name {
            #[inline(always)]
            unsafe fn at<V: Lanes>(self, x: V) -> V {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $function(x) }
            }
        })*
    };
}

curves! {
    Identity = identity
    Gelu = gelu
    GeluTanh = gelu_tanh
    Relu = relu
    Silu = silu
    Tanh = tanh
    Sigmoid = sigmoid
}

/// # Safety
/// The instructions of `V` exist, as everywhere here.
#[inline(always)]
pub(super) unsafe fn number<V: Lanes>(x: f32) -> V {
    // SAFETY: the caller vouches for the instruction, and the reference is valid.
    unsafe { V::splat(&x) }
}

/// A polynomial of degree 6, whose coefficients are given from the highest power down. Neighbours are joined, then neighbours of
/// those (Estrin): in order every power would wait for the one above, and a processor has room for a few registers that wait.
/// The constant comes last, so that the others' errors shrink with `x`.
#[inline(always)]
unsafe fn degree_six<V: Lanes>(x: V, [c6, c5, c4, c3, c2, c1, c0]: [f32; 7]) -> V {
    // SAFETY: as above.
    unsafe {
        let x2 = x.mul(x);
        let pair = |high, low| number::<V>(low).add_product(number(high), x);
        let low = pair(c2, c1).add_product(pair(c4, c3), x2);
        number::<V>(c0).add_product(low.add_product(pair(c6, c5), x2.mul(x2)), x)
    }
}

/// The same of degree 8.
#[inline(always)]
unsafe fn degree_eight<V: Lanes>(x: V, [c8, c7, c6, c5, c4, c3, c2, c1, c0]: [f32; 9]) -> V {
    // SAFETY: as above.
    unsafe {
        let x2 = x.mul(x);
        let pair = |high, low| number::<V>(low).add_product(number(high), x);
        let low = pair(c2, c1).add_product(pair(c4, c3), x2);
        let high = pair(c6, c5).add_product(pair(c8, c7), x2);
        number::<V>(c0).add_product(low.add_product(high, x2.mul(x2)), x)
    }
}

/// `2^x` within 1.5e-7 of the true value, relatively. Below -125 as at -125, above 126 as at 126.
#[inline(always)]
pub(super) unsafe fn exp2<V: Lanes>(x: V) -> V {
    // SAFETY: as above.
    unsafe { exp2_between(number::<V>(126.0).min(number::<V>(-125.0).max(x))) }
}

/// The same for an exponent from -125 to 126: the whole part by the exponent's bits, the rest, at most a half, by a polynomial
/// (least largest relative error).
#[inline(always)]
unsafe fn exp2_between<V: Lanes>(x: V) -> V {
    const COEFFICIENTS: [f32; 7] =
        [1.535_337_2e-4, 1.339_887_7e-3, 9.618_437e-3, 5.550_332_4e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0];
    // SAFETY: as above.
    unsafe {
        // Adding this rounds to a whole number, and leaves it in the low bits.
        let round = number::<V>(12_582_912.0);
        let whole = x.add(round);
        degree_six(x.sub(whole.sub(round)), COEFFICIENTS).scale_exponent(whole)
    }
}

#[inline(always)]
unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    // SAFETY: as above.
    unsafe {
        let one = number::<V>(1.0);
        one.div(one.add(exp2(x.mul(number(-std::f32::consts::LOG2_E)))))
    }
}

/// `max(x, 0) - |x| erfc(|x| / sqrt 2) / 2`, which is GELU and needs no sign. The complementary error function is a power
/// of two, whose exponent is a polynomial without a constant term: within 7e-8 of the true value. From 5.75 on the second
/// term is 2.6e-8 and stays so.
#[inline(always)]
unsafe fn gelu<V: Lanes>(x: V) -> V {
    const EXPONENT: [f32; 9] = [
        2.731_334_5e-7,
        -6.139_543_5e-6,
        5.543_408_8e-5,
        -2.266_451_2e-4,
        -7.994_541e-5,
        7.018_433e-3,
        -5.247_732_3e-2,
        -4.592_118_6e-1,
        -1.151_104_9,
    ];
    // SAFETY: as above.
    unsafe {
        let size = number::<V>(5.75).min(x.max(V::zero().sub(x)));
        let complement = exp2_between(size.mul(degree_eight(size, EXPONENT)));
        V::zero().max(x).sub(size.mul(number(0.5)).mul(complement))
    }
}

/// `(1 + tanh y) / 2` is the sigmoid of `2 y`.
#[inline(always)]
unsafe fn gelu_tanh<V: Lanes>(x: V) -> V {
    // SAFETY: as above.
    unsafe {
        let y = x.add_product(number(0.044_715), x.mul(x).mul(x));
        x.mul(sigmoid(y.mul(number(2.0 * 0.797_884_6))))
    }
}

#[inline(always)]
unsafe fn silu<V: Lanes>(x: V) -> V {
    // SAFETY: as above.
    unsafe { x.mul(sigmoid(x)) }
}

#[inline(always)]
unsafe fn tanh<V: Lanes>(x: V) -> V {
    // SAFETY: as above.
    unsafe {
        let two = number::<V>(2.0);
        two.mul(sigmoid(two.mul(x))).sub(number(1.0))
    }
}

#[inline(always)]
unsafe fn relu<V: Lanes>(x: V) -> V {
    // SAFETY: as above.
    unsafe { V::zero().max(x) }
}

#[inline(always)]
unsafe fn identity<V>(x: V) -> V {
    x
}
