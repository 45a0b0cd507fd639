//! Token ids -> the sum of their word, position and type rows.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Rows;
use crate::batch::Batch;

/// Word, position and token type embeddings, all tokens being of type 0.
pub struct Embedding {
    words: Tensor,
    /// Position rows, the row of type 0 added to each.
    positions: Vec<f32>,
}

impl Embedding {
    /// From `words [vocabulary, features]`, `positions [positions, features]` and `types [types, features]`.
    pub fn new(words: Tensor, positions: &Tensor, types: &Tensor) -> Result<Self> {
        let widths = [words.dim(1)?, positions.dim(1)?, types.dim(1)?];
        if widths[0] == 0 || widths != [widths[0]; 3] {
            candle_core::bail!("embedding: got rows of {widths:?}, wanted three times the same")
        }
        let types = types.get(0)?.to_vec1::<f32>()?;
        let mut positions = positions.flatten_all()?.to_vec1::<f32>()?;
        for row in positions.chunks_exact_mut(types.len()) {
            row.iter_mut().zip(&types).for_each(|(x, t)| *x += t);
        }
        Ok(Self { words, positions })
    }

    /// `[tokens, features]`.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor> {
        self.words.apply_op1_no_bwd(&Lookup { batch, positions: &self.positions })
    }
}

struct Lookup<'a> {
    batch: &'a Batch,
    positions: &'a [f32],
}

impl CustomOp1 for Lookup<'_> {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let words = Rows::new(storage, layout)?;
        let mut out = Vec::with_capacity(self.batch.ids().len() * words.width);
        for (&id, position) in self.batch.ids().iter().zip(self.batch.positions()) {
            let (id, position) = (id as usize, position as usize * words.width);
            let Some(position) =
                self.positions.get(position..position + words.width).filter(|_| id < words.count)
            else {
                candle_core::bail!("embedding: id {id} or its position is beyond the table")
            };
            out.extend(words.row(id).iter().zip(position).map(|(w, p)| w + p));
        }
        Ok((CpuStorage::F32(out), Shape::from((self.batch.ids().len(), words.width))))
    }
}
