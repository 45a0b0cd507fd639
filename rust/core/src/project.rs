//! Hidden states -> unit rows: the Dense chain, the keep mask, L2 normalisation.

use candle_core::Tensor;

use crate::checkpoint::{DenseSpec, Provenance};
use crate::encoder::open_weights;
use crate::error::{Error, Result};
use crate::ops::{Activation, Linear};

/// The Dense layers of a model, in order; none for a bare transformer.
pub(crate) struct Projection {
    layers: Vec<Dense>,
    dim: usize,
}

struct Dense {
    linear: Linear,
    residual: Option<Residual>,
}

/// What is added after the activation.
enum Residual {
    Input,
    Projected(Linear),
}

impl Projection {
    /// Loads the chain over a backbone of `hidden_size`.
    pub(crate) fn load(specs: &[DenseSpec], hidden_size: usize) -> Result<(Self, Vec<Provenance>)> {
        let mut dim = hidden_size;
        let mut layers = Vec::new();
        let mut provenance = Vec::new();
        for spec in specs {
            if spec.in_features != dim {
                let problem = format!(
                    "got {}, wanted {dim}, the size that comes out of the layer before",
                    spec.in_features
                );
                return Err(Error::model(&spec.folder.join("config.json"), "in_features", problem));
            }
            let (layer, source) = Dense::load(spec)?;
            layers.push(layer);
            provenance.push(source);
            dim = spec.out_features;
        }
        Ok((Self { layers, dim }, provenance))
    }

    /// The length of a row.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// `[tokens, hidden_size] -> [tokens, dim]`.
    pub(crate) fn forward(&self, hidden: Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(hidden, |x, layer| layer.forward(&x))
    }
}

impl Dense {
    fn load(spec: &DenseSpec) -> Result<(Self, Provenance)> {
        let (inputs, outputs) = (spec.in_features, spec.out_features);
        let weights = open_weights(&spec.folder, "")?;
        let weight = weights.get("linear.weight", &[outputs, inputs])?;
        if !spec.bias && weights.contains("linear.bias") {
            let problem = "got false, but model.safetensors holds a linear.bias; wanted both to say the same";
            return Err(Error::model(&spec.folder.join("config.json"), "bias", problem));
        }
        let bias = if spec.bias { Some(weights.get("linear.bias", &[outputs])?) } else { None };
        let residual = match (spec.use_residual, inputs == outputs) {
            (false, _) => None,
            (true, true) => Some(Residual::Input),
            (true, false) => {
                let weight = weights.get("residual.weight", &[outputs, inputs])?;
                Some(Residual::Projected(Linear::new(&weight, None, Activation::Identity)?))
            }
        };
        let linear = Linear::new(&weight, bias.as_ref(), spec.activation)?;
        Ok((Self { linear, residual }, weights.provenance("")))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match &self.residual {
            None => self.linear.forward(x)?,
            Some(Residual::Input) => self.linear.forward_with_residual(x, x)?,
            Some(Residual::Projected(linear)) => self.linear.forward_with_residual(x, &linear.forward(x)?)?,
        })
    }
}

/// Writes the kept rows of `rows` (`dim` values each) to `out`, each divided by its length, or by 1e-12 if that is
/// larger: a zero row stays zero. False if a row is not finite, which only damaged weights can cause.
#[must_use]
pub(crate) fn write_normalized(rows: &[f32], keep: &[bool], dim: usize, out: &mut [f32]) -> bool {
    let kept = rows.chunks_exact(dim).zip(keep).filter(|(_, keep)| **keep);
    let mut finite = true;
    for ((row, _), out) in kept.zip(out.chunks_exact_mut(dim)) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        finite &= length.is_finite();
        let length = length.max(1e-12);
        out.iter_mut().zip(row).for_each(|(y, x)| *y = x / length);
    }
    finite
}
