//! `act(x W' + b)` and the residual, in one pass over the result.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::{Activation, composed, fused, rows, simd, timed};
use crate::kernels::{Layer, Precision, Rows};
use crate::memory;

/// A linear layer with its bias and activation. The weights are held as the kernel wants them, so what went in
/// cannot be read back.
pub struct Linear {
    form: Form,
    in_features: usize,
    out_features: usize,
    activation: Activation,
}

enum Form {
    /// As the kernel wants them.
    Packed(Layer),
    /// As the checkpoint stores it.
    Plain { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// From a weight `[out_features, in_features]` and a bias `[out_features]`, as checkpoints store them.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Self> {
        let (weights, biases) = (std::slice::from_ref(weight), bias.map(std::slice::from_ref));
        Self::joined(weights, biases, activation, Precision::Float32)
    }

    /// Several layers over the same input as one, whose outputs follow each other: one weight each, and one bias each or
    /// none at all. The precision is that of float32 tensors on the CPU; others are computed with as they are.
    pub fn joined(
        weights: &[Tensor],
        biases: Option<&[Tensor]>,
        activation: Activation,
        precision: Precision,
    ) -> Result<Self> {
        let mut out_features = 0;
        let mut in_features = 0;
        for (index, weight) in weights.iter().enumerate() {
            let (outputs, inputs) = weight.dims2()?;
            let bias_fits =
                biases.is_none_or(|all| all.get(index).is_some_and(|bias| bias.dims() == [outputs]));
            if inputs == 0 || outputs == 0 || !bias_fits || (index > 0 && inputs != in_features) {
                candle_core::bail!(
                    "linear {inputs} -> {outputs}: wanted sizes of at least 1, equal inputs and a bias for each output"
                )
            }
            in_features = inputs;
            out_features += outputs;
        }
        if weights.first().is_none_or(fused) {
            let biases =
                biases.map(|all| all.iter().map(Tensor::to_vec1).collect::<Result<Vec<_>>>()).transpose()?;
            let values =
                weights.iter().map(|w| w.flatten_all()?.to_vec1()).collect::<Result<Vec<Vec<f32>>>>()?;
            let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            let bias = biases.map(|parts| parts.concat());
            return Self::from_values(&values, in_features, bias, activation, precision);
        }
        let bias = biases.map(|all| Tensor::cat(all, 0)).transpose()?;
        let form = Form::Plain { weight: Tensor::cat(weights, 0)?, bias };
        Ok(Self { form, in_features, out_features, activation })
    }

    /// The same from float32 values, each weight `[out_features, in_features]` row after row: for a file whose bytes need
    /// not become a tensor first.
    pub(crate) fn from_values(
        weights: &[&[f32]],
        in_features: usize,
        bias: Option<Vec<f32>>,
        activation: Activation,
        precision: Precision,
    ) -> Result<Self> {
        let values: usize = weights.iter().map(|weight| weight.len()).sum();
        let out_features = values.checked_div(in_features).unwrap_or(0);
        if out_features == 0
            || weights.iter().any(|weight| weight.len() % in_features != 0)
            || bias.as_ref().is_some_and(|bias| bias.len() != out_features)
        {
            candle_core::bail!(
                "linear: got {values} values for {in_features} inputs, or a bias of another size"
            )
        }
        if in_features > Layer::MOST_INPUTS {
            candle_core::bail!("linear: got {in_features} inputs, wanted at most {}", Layer::MOST_INPUTS)
        }
        let rows: Vec<&[f32]> = weights.iter().flat_map(|weight| weight.chunks_exact(in_features)).collect();
        let panels = memory::reserve(Layer::lines(simd()?, precision, in_features, out_features));
        let form = Form::Packed(Layer::pack(simd()?, precision, &rows, bias.as_deref(), activation, panels));
        Ok(Self { form, in_features, out_features, activation })
    }

    /// The number of features of a result's row.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// `[tokens, in_features] -> [tokens, out_features]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.timed(x, || match &self.form {
            Form::Packed(layer) => x.apply_op1_no_bwd(&Apply(layer)),
            Form::Plain { weight, bias } => composed::linear(x, weight, bias.as_ref(), self.activation, None),
        })
    }

    /// The same, with `residual [tokens, out_features]` added after the activation.
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.timed(x, || match &self.form {
            Form::Packed(layer) => x.apply_op2_no_bwd(residual, &Apply(layer)),
            Form::Plain { weight, bias } => {
                composed::linear(x, weight, bias.as_ref(), self.activation, Some(residual))
            }
        })
    }

    fn timed<T>(&self, x: &Tensor, call: impl FnOnce() -> T) -> T {
        let Self { in_features, out_features, activation, .. } = *self;
        let name = || match activation {
            Activation::Identity => format!("linear {in_features} -> {out_features}"),
            _ => format!("linear {in_features} -> {out_features} {}", activation.name()),
        };
        timed(name, || 2.0 * (x.elem_count() * out_features) as f64, call)
    }
}

struct Apply<'a>(&'a Layer);

impl Apply<'_> {
    fn run(&self, x: Rows, residual: Option<Rows>) -> Result<(CpuStorage, Shape)> {
        let (inputs, outputs) = (self.0.inputs(), self.0.outputs());
        if x.width != inputs || residual.is_some_and(|r| (r.count, r.width) != (x.count, outputs)) {
            candle_core::bail!(
                "linear {inputs} -> {outputs}: got rows of {}, or a residual of another size",
                x.width
            )
        }
        Ok((CpuStorage::F32(self.0.apply(x, residual)), Shape::from((x.count, outputs))))
    }
}

impl CustomOp1 for Apply<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(rows(x, x_layout)?, None)
    }
}

impl CustomOp2 for Apply<'_> {
    fn name(&self) -> &'static str {
        "linear with residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(rows(x, x_layout)?, Some(rows(residual, residual_layout)?))
    }
}
