//! A text's ids -> its rows, by candle-transformers' BERT and candle's own operations: no kernel of ours.

use candle_core::{DType, Device, Tensor, safetensors};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use wasm_bindgen::prelude::*;

/// BERT and the projection of a ColBERT.
#[wasm_bindgen]
pub struct Encoder {
    bert: BertModel,
    projection: Tensor,
}

#[wasm_bindgen]
impl Encoder {
    /// From `config.json`, `model.safetensors` and `1_Dense/model.safetensors`.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &str, weights: Vec<u8>, dense: &[u8]) -> Result<Self, JsError> {
        let config: Config = serde_json::from_str(config)?;
        let bert = BertModel::load(
            VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?,
            &config,
        )?;
        let dense = safetensors::load_buffer(dense, &Device::Cpu)?;
        let projection =
            dense.get("linear.weight").ok_or_else(|| JsError::new("no linear.weight"))?.t()?.contiguous()?;
        Ok(Self { bert, projection })
    }

    /// The unit rows of a text, one after the other, of which the first `attended` are seen. One text a call, so nothing
    /// is padded.
    pub fn encode(&self, ids: &[u32], attended: usize) -> Result<Vec<f32>, JsError> {
        let seen: Vec<u32> = (0..ids.len()).map(|place| u32::from(place < attended)).collect();
        let [ids, seen] = [ids, &seen].map(|row| Tensor::new(row, &Device::Cpu)?.unsqueeze(0));
        let ids = ids?;
        let hidden = self.bert.forward(&ids, &ids.zeros_like()?, Some(&seen?))?.squeeze(0)?;
        let rows = hidden.matmul(&self.projection)?;
        let lengths = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
        Ok(rows.broadcast_div(&lengths)?.flatten_all()?.to_vec1()?)
    }
}
