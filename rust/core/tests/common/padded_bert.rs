//! candle-transformers' BERT on a padded batch, and the Dense chain by plain matrix products: the oracle of the
//! tests and the baseline of the benchmarks. It shares no code with chandelier but candle's own tensors.

use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::Value;

pub(crate) struct PaddedBert {
    bert: BertModel,
    dense: Vec<Dense>,
}

struct Dense {
    weight: Tensor,
    bias: Option<Tensor>,
    tanh: bool,
}

impl PaddedBert {
    /// Reads a checkpoint in PyLate's format whose norms are called `LayerNorm.weight` and `.bias`.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let modules = json(&root.join("modules.json"))?;
        let folder = |module: &Value| root.join(module["path"].as_str().unwrap_or_default());
        let mut bert = None;
        let mut dense = Vec::new();
        for module in modules.as_array().into_iter().flatten() {
            match module["type"].as_str().unwrap_or_default().rsplit('.').next() {
                Some("Transformer") => {
                    let config = json(&folder(module).join("config.json"))?;
                    let config: Config = serde_json::from_value(config).map_err(candle_core::Error::wrap)?;
                    bert = Some(BertModel::load(weights(&folder(module))?, &config)?);
                }
                Some("Dense") => dense.push(Dense::open(&folder(module))?),
                _ => {}
            }
        }
        let Some(bert) = bert else { candle_core::bail!("{}: no Transformer", root.display()) };
        Ok(Self { bert, dense })
    }

    /// `[texts, longest, dim]`, unit rows, of texts given by their ids and how many of them are attended to.
    /// Rows beyond a text's end are padding.
    pub(crate) fn forward(&self, texts: &[(&[u32], usize)]) -> Result<Tensor> {
        let longest = texts.iter().map(|(ids, _)| ids.len()).max().unwrap_or_default();
        let shape = (texts.len(), longest);
        let padded = |text: &dyn Fn(usize, usize) -> u32| {
            let cells: Vec<u32> =
                (0..texts.len()).flat_map(|t| (0..longest).map(move |i| text(t, i))).collect();
            Tensor::from_vec(cells, shape, &Device::Cpu)
        };
        let ids = padded(&|t, i| texts[t].0.get(i).copied().unwrap_or(0))?;
        let mask = padded(&|t, i| u32::from(i < texts[t].1))?;
        let hidden = self.bert.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let rows = self.dense.iter().try_fold(hidden, |x, dense| dense.forward(&x))?;
        let lengths = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
        rows.broadcast_div(&lengths)
    }
}

impl Dense {
    fn open(folder: &Path) -> Result<Self> {
        let config = json(&folder.join("config.json"))?;
        let tensors = weights(folder)?;
        let size = |key: &str| config[key].as_u64().unwrap_or_default() as usize;
        let (inputs, outputs) = (size("in_features"), size("out_features"));
        let bias = config["bias"].as_bool().unwrap_or(true);
        let tanh = match config["activation_function"].as_str().unwrap_or_default() {
            "torch.nn.modules.activation.Tanh" => true,
            "torch.nn.modules.linear.Identity" => false,
            other => candle_core::bail!("the oracle does not know {other:?}"),
        };
        if config["use_residual"].as_bool() == Some(true) {
            candle_core::bail!("the oracle knows no residual")
        }
        Ok(Self {
            weight: tensors.get((outputs, inputs), "linear.weight")?,
            bias: if bias { Some(tensors.get(outputs, "linear.bias")?) } else { None },
            tanh,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.broadcast_matmul(&self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        if self.tanh { y.tanh() } else { Ok(y) }
    }
}

fn json(path: &Path) -> Result<Value> {
    serde_json::from_slice(&std::fs::read(path)?).map_err(candle_core::Error::wrap)
}

fn weights(folder: &Path) -> Result<VarBuilder<'static>> {
    let bytes = std::fs::read(folder.join("model.safetensors"))?;
    VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)
}
