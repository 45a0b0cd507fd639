//! Token ids -> the sum of their word, position and type rows.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{composed, fused, rows, timed_simple};
use crate::batch::Batch;

/// Word embeddings, and with them position and token type embeddings where a model has those; all tokens are of
/// type 0.
pub struct Embedding {
    words: Tensor,
    places: Option<Places>,
}

/// How positions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// From 0 on.
    FromZero,
    /// RoBERTa's: tokens other than the padding token count on from behind its id, and it has its id for a position.
    /// The ids decide, not the attention: the mask tokens of a query count.
    PastPadding(u32),
}

struct Places {
    numbering: Numbering,
    rows: PositionRows,
}

/// Position rows, the row of type 0 added to each, as the kernel wants them.
enum PositionRows {
    Host(Vec<f32>),
    Tensor(Tensor),
}

impl Embedding {
    /// From `words [vocabulary, features]` alone.
    pub fn new(words: Tensor) -> Result<Self> {
        if words.dims2()?.1 == 0 {
            candle_core::bail!("embedding: got rows of no columns")
        }
        Ok(Self { words, places: None })
    }

    /// Adds `positions [positions, features]` and the first row of `types [types, features]`.
    pub fn with_positions(
        self,
        positions: &Tensor,
        types: Option<&Tensor>,
        numbering: Numbering,
    ) -> Result<Self> {
        let width = self.words.dim(1)?;
        if positions.dim(1)? != width || types.is_some_and(|types| types.dims().get(1) != Some(&width)) {
            candle_core::bail!(
                "embedding: got word rows of {width} and position or type rows of another size"
            )
        }
        let rows = if fused(positions) {
            let mut rows = positions.flatten_all()?.to_vec1::<f32>()?;
            if let Some(types) = types {
                add_row(&mut rows, &types.get(0)?.to_vec1()?);
            }
            PositionRows::Host(rows)
        } else {
            let rows =
                types.map_or(Ok(positions.clone()), |types| positions.broadcast_add(&types.get(0)?))?;
            PositionRows::Tensor(rows)
        };
        Ok(Self { words: self.words, places: Some(Places { numbering, rows }) })
    }

    /// Adds the first row of `types [types, features]` to every word.
    pub fn with_type(self, types: &Tensor) -> Result<Self> {
        let width = self.words.dim(1)?;
        if types.dims().get(1) != Some(&width) {
            candle_core::bail!("embedding: got word rows of {width} and type rows of {:?}", types.dims())
        }
        if !fused(&self.words) {
            return Ok(Self { words: self.words.broadcast_add(&types.get(0)?)?, ..self });
        }
        let mut rows = self.words.flatten_all()?.to_vec1::<f32>()?;
        add_row(&mut rows, &types.get(0)?.to_vec1()?);
        Ok(Self { words: Tensor::from_vec(rows, self.words.shape(), self.words.device())?, ..self })
    }

    /// `[tokens, features]`.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor> {
        timed_simple("embedding", || self.compute(batch))
    }

    fn compute(&self, batch: &Batch) -> Result<Tensor> {
        let Some(places) = &self.places else {
            return if fused(&self.words) {
                self.words.apply_op1_no_bwd(&Lookup { batch, places: None })
            } else {
                composed::lookup(&self.words, batch.ids())
            };
        };
        let numbers = places.numbering.number(batch);
        match &places.rows {
            PositionRows::Host(rows) => {
                self.words.apply_op1_no_bwd(&Lookup { batch, places: Some((rows, &numbers)) })
            }
            PositionRows::Tensor(rows) => {
                composed::lookup(&self.words, batch.ids())? + composed::lookup(rows, &numbers)?
            }
        }
    }
}

fn add_row(rows: &mut [f32], row: &[f32]) {
    rows.chunks_exact_mut(row.len()).for_each(|place| place.iter_mut().zip(row).for_each(|(x, y)| *x += y));
}

impl Numbering {
    /// The position of every token.
    fn number(self, batch: &Batch) -> Vec<u32> {
        let Self::PastPadding(padding) = self else { return batch.positions().collect() };
        let mut numbers = Vec::with_capacity(batch.ids().len());
        for (start, rows, _) in batch.texts() {
            let mut last = padding;
            numbers.extend(batch.ids()[start..start + rows].iter().map(|&id| {
                last += u32::from(id != padding);
                if id == padding { padding } else { last }
            }));
        }
        numbers
    }
}

struct Lookup<'a> {
    batch: &'a Batch,
    /// A table of position rows, and for every token its row.
    places: Option<(&'a [f32], &'a [u32])>,
}

impl CustomOp1 for Lookup<'_> {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let words = rows(storage, layout)?;
        let ids = self.batch.ids();
        let mut out = Vec::with_capacity(ids.len() * words.width);
        for (index, &id) in ids.iter().enumerate() {
            if id as usize >= words.count {
                candle_core::bail!("embedding: id {id} is beyond the {} rows of the table", words.count)
            }
            let word = words.row(id as usize);
            let Some((table, numbers)) = self.places else {
                out.extend_from_slice(word);
                continue;
            };
            let place = numbers[index] as usize * words.width;
            let Some(place) = table.get(place..place + words.width) else {
                candle_core::bail!("embedding: position {} is beyond the table", numbers[index])
            };
            out.extend(word.iter().zip(place).map(|(w, p)| w + p));
        }
        Ok((CpuStorage::F32(out), Shape::from((ids.len(), words.width))))
    }
}
