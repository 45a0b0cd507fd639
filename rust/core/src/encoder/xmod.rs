//! X-MOD (Pfeiffer et al., 2022), as transformers' `XmodModel` computes it: XLM-RoBERTa with an adapter for every
//! language behind each layer, of which the default language's is used.

use candle_core::Tensor;

use super::bert::{Embeddings, describe, sizes};
use super::post_norm::{BERT_NAMES, PostNormLayer, Sizes};
use super::xlm_roberta::embeddings;
use super::{Architecture, Encoder, parts};
use crate::batch::Batch;
use crate::checkpoint::{JsonFile, Weights};
use crate::error::Result;
use crate::ops::{Activation, Linear};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    model_types: &["xmod"],
    prefix: "roberta.",
    own_code: &[],
    load: |config, weights| Ok(Box::new(Xmod::load(config, weights)?)),
};

struct Xmod {
    sizes: Sizes,
    embeddings: Embeddings,
    padding: u32,
    language: String,
    layers: Vec<Layer>,
}

struct Layer {
    layer: PostNormLayer,
    down: Linear,
    up: Linear,
}

impl Xmod {
    fn load(config: &JsonFile, weights: &Weights) -> Result<Self> {
        let sizes = sizes(config)?;
        // Of the ways to place the adapter's norm only that of the published models is computed.
        for (key, wanted, default) in [
            ("pre_norm", false, false),
            ("adapter_layer_norm", false, false),
            ("adapter_reuse_layer_norm", true, true),
            ("ln_before_adapter", true, true),
        ] {
            let got = config.bool(key)?.unwrap_or(default);
            if got != wanted {
                return Err(config.error(key, format!("got {got}, wanted {wanted}")));
            }
        }
        let language =
            config.require("default_language", "the language of the adapters", JsonFile::string)?;
        let languages = config.strings("languages")?.unwrap_or_else(|| vec!["en_XX".to_owned()]);
        if !languages.contains(&language) {
            return Err(
                config.error("default_language", format!("got {language:?}, wanted one of {languages:?}"))
            );
        }
        let bottleneck = sizes.hidden / config.size("adapter_reduction_factor")?.unwrap_or(2);
        if bottleneck == 0 {
            let problem = format!("leaves nothing of {} columns, wanted at most so many", sizes.hidden);
            return Err(config.error("adapter_reduction_factor", problem));
        }
        let (embeddings, padding) = embeddings(config, weights, &sizes)?;
        let layer =
            |index| Layer::load(weights, &format!("encoder.layer.{index}"), &language, bottleneck, &sizes);
        let layers = parts::each_layer(weights, parts::layers(config, "num_hidden_layers")?, layer)?;
        Ok(Self { sizes, embeddings, padding, language, layers })
    }
}

impl Encoder for Xmod {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let hidden = self.embeddings.forward(batch)?;
        self.layers.iter().try_fold(hidden, |hidden, layer| layer.forward(&hidden, batch))
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn positions(&self) -> usize {
        self.embeddings.positions
    }

    fn vocabulary(&self) -> usize {
        self.embeddings.vocabulary
    }

    fn describe(&self) -> String {
        let common = describe("xmod", self.layers.len(), &self.sizes);
        format!("{common} pad_token_id={} language={}", self.padding, self.language)
    }
}

impl Layer {
    fn load(weights: &Weights, name: &str, language: &str, bottleneck: usize, sizes: &Sizes) -> Result<Self> {
        let adapter = |part: &str| format!("{name}.output.adapter_modules.{language}.{part}");
        let (hidden, activation) = (sizes.hidden, sizes.activation);
        Ok(Self {
            layer: PostNormLayer::load(weights, name, &BERT_NAMES, sizes)?,
            down: parts::linear(weights, &adapter("dense1"), (hidden, bottleneck), true, activation)?,
            up: parts::linear(weights, &adapter("dense2"), (bottleneck, hidden), true, Activation::Identity)?,
        })
    }

    /// The adapter works between two passes through the layer's last norm.
    fn forward(&self, hidden: &Tensor, batch: &Batch) -> Result<Tensor> {
        let hidden = self.layer.forward(hidden, None, batch)?;
        let adapted = self.up.forward_with_residual(&self.down.forward(&hidden)?, &hidden)?;
        Ok(self.layer.output_norm.forward(&adapted)?)
    }
}
