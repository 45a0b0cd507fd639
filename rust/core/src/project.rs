//! Hidden states -> rows: the Dense chain, the keep mask, L2 normalisation.

use candle_core::Tensor;

use crate::checkpoint::{DenseSpec, Provenance, Weights};
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::ops::{Activation, Linear};

/// The Dense layers of a model, in order; none for a bare transformer.
pub(crate) struct Projection {
    layers: Vec<Dense>,
    dim: usize,
}

struct Dense {
    shape: DenseShape,
    linear: Linear,
    residual: Option<Residual>,
}

/// One Dense layer: `act(W x + b)`, then the residual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DenseShape {
    /// Inputs.
    pub in_features: usize,
    /// Outputs.
    pub out_features: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// The activation, applied before the residual.
    pub activation: Activation,
    /// Whether the input (projected if the sizes differ) is added at the end.
    pub use_residual: bool,
}

/// What is added after the activation.
enum Residual {
    Input,
    Projected(Linear),
}

impl Projection {
    /// Loads the chain over a backbone of `hidden_size`.
    pub(crate) fn load(
        specs: &[DenseSpec],
        hidden_size: usize,
        compute: &Compute,
    ) -> Result<(Self, Vec<Provenance>)> {
        let mut dim = hidden_size;
        let mut layers = Vec::new();
        let mut provenance = Vec::new();
        for DenseSpec { folder, shape } in specs {
            if shape.in_features != dim {
                let problem = format!(
                    "got {}, wanted {dim}, the size that comes out of the layer before",
                    shape.in_features
                );
                return Err(Error::model(folder.join("config.json").path(), "in_features", problem));
            }
            let weights = Weights::open(folder, "", compute.clone())?;
            if !shape.bias && weights.contains("linear.bias") {
                let problem = "got false, but the weights hold a linear.bias; wanted both to say the same";
                return Err(Error::model(folder.join("config.json").path(), "bias", problem));
            }
            layers.push(Dense::load(*shape, &weights)?);
            provenance.push(weights.provenance());
            dim = shape.out_features;
        }
        Ok((Self { layers, dim }, provenance))
    }

    /// The one layer of a Stanford checkpoint, which stands among the weights of the backbone and has no bias.
    pub(crate) fn among(weights: &Weights, hidden_size: usize) -> Result<Self> {
        let name = "linear.weight";
        let out_features = weights.shape(name)?.first().copied().unwrap_or(0);
        if out_features == 0 {
            return Err(
                weights.unfit(name, "of a shape without rows, wanted one for every column of the result")
            );
        }
        let activation = Activation::Identity;
        let shape = DenseShape {
            in_features: hidden_size,
            out_features,
            bias: false,
            activation,
            use_residual: false,
        };
        Ok(Self { layers: vec![Dense::load(shape, weights)?], dim: out_features })
    }

    /// The length of a row.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The layers, in order.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = DenseShape> + '_ {
        self.layers.iter().map(|layer| layer.shape)
    }

    /// `[tokens, hidden_size] -> [tokens, dim]`.
    pub(crate) fn forward(&self, hidden: Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(hidden, |x, layer| layer.forward(&x))
    }
}

impl Dense {
    fn load(shape: DenseShape, weights: &Weights) -> Result<Self> {
        let DenseShape { in_features: inputs, out_features: outputs, .. } = shape;
        let weight = weights.get("linear.weight", &[outputs, inputs])?;
        let bias = shape.bias.then(|| weights.get("linear.bias", &[outputs])).transpose()?;
        let residual = match (shape.use_residual, inputs == outputs) {
            (false, _) => None,
            (true, true) => Some(Residual::Input),
            (true, false) => {
                let weight = weights.get("residual.weight", &[outputs, inputs])?;
                Some(Residual::Projected(Linear::new(&weight, None, Activation::Identity)?))
            }
        };
        let linear = Linear::new(&weight, bias.as_ref(), shape.activation)?;
        Ok(Self { shape, linear, residual })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match &self.residual {
            None => self.linear.forward(x)?,
            Some(Residual::Input) => self.linear.forward_with_residual(x, x)?,
            Some(Residual::Projected(linear)) => self.linear.forward_with_residual(x, &linear.forward(x)?)?,
        })
    }
}

/// Writes the kept rows of `rows` (`dim` values each) to `out`, if wanted each divided by its length, or by 1e-12 if
/// that is larger: a zero row stays zero. False if a row is not finite, which only damaged weights can cause.
#[must_use]
pub(crate) fn write_rows(rows: &[f32], keep: &[bool], dim: usize, normalize: bool, out: &mut [f32]) -> bool {
    let kept = rows.chunks_exact(dim).zip(keep).filter(|(_, keep)| **keep);
    let mut finite = true;
    for ((row, _), out) in kept.zip(out.chunks_exact_mut(dim)) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        finite &= length.is_finite();
        let divisor = if normalize { length.max(1e-12) } else { 1.0 };
        out.iter_mut().zip(row).for_each(|(y, x)| *y = x / divisor);
    }
    finite
}
