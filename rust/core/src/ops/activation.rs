//! Activation functions by their names in checkpoints, applied in place.

use multiversion::multiversion;

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

impl Activation {
    /// A name that does not change: fingerprints hang on it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Relu => "relu",
            Self::Silu => "silu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
        }
    }

    /// By the `hidden_act` of a transformers configuration.
    pub(crate) fn from_hidden_act(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "relu" => Self::Relu,
            "silu" | "swish" => Self::Silu,
            _ => return None,
        })
    }

    /// By the dotted class name in a Dense configuration.
    pub(crate) fn from_torch_class(class: &str) -> Option<Self> {
        let name = class.strip_prefix("torch.nn.modules.")?.split_once('.')?;
        Some(match name {
            ("linear", "Identity") => Self::Identity,
            ("activation", "GELU") => Self::Gelu,
            ("activation", "ReLU") => Self::Relu,
            ("activation", "SiLU") => Self::Silu,
            ("activation", "Tanh") => Self::Tanh,
            ("activation", "Sigmoid") => Self::Sigmoid,
            _ => return None,
        })
    }

    /// The message for a name that is none of the above.
    pub(crate) fn unknown(name: &str) -> String {
        format!("got {name:?}, wanted one of Identity, GELU, ReLU, SiLU, Tanh, Sigmoid")
    }

    /// Applies the function to every element.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Gelu => gelu(values),
            Self::GeluTanh => each(values, |x| {
                const SQRT_2_OVER_PI: f32 = 0.797_884_6;
                0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh())
            }),
            Self::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
            Self::Silu => each(values, |x| x / (1.0 + (-x).exp())),
            Self::Tanh => each(values, f32::tanh),
            Self::Sigmoid => each(values, |x| 1.0 / (1.0 + (-x).exp())),
        }
    }
}

fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|x| *x = f(*x));
}

/// GELU is a fifth of the arithmetic outside the matrix products, so it alone is written for the vector units.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn gelu(values: &mut [f32]) {
    for x in values {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// The error function by the rational approximation of Eigen's `erf_float` (Eigen 3.4,
/// `MathFunctionsImpl.h`, MPL-2.0: the coefficients), within 4e-7 of the true value.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ALPHA: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_3e-8,
        -2.101_024e-6,
        -5.692_506_5e-5,
        -7.349_906e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BETA: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let horner = |coefficients: &[f32]| coefficients.iter().fold(0.0, |sum, c| sum * square + c);
    x * horner(&ALPHA) / horner(&BETA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_within_its_bound_everywhere() {
        let worst = (-60_000..=60_000)
            .map(|i| i as f32 * 1e-4)
            .map(|x| (f64::from(erf(x)) - libm::erf(f64::from(x))).abs())
            .fold(0.0, f64::max);
        assert!(worst < 4e-7, "{worst}");
    }

    #[test]
    fn names_resolve_or_do_not() {
        assert_eq!(Activation::from_torch_class("torch.nn.modules.activation.Tanh"), Some(Activation::Tanh));
        assert_eq!(Activation::from_torch_class("torch.nn.modules.activation.Mish"), None);
        assert_eq!(Activation::from_torch_class("Tanh"), None);
        assert_eq!(Activation::from_hidden_act("gelu_pytorch_tanh"), Some(Activation::GeluTanh));
        assert_eq!(Activation::from_hidden_act("gelu_fast"), None);
    }
}
