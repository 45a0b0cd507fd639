//! Zeros in the rows that nobody attends to.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{composed, fused, rows};
use crate::batch::Batch;

/// `[tokens, features]` with the rows that are not attended to made zero.
pub fn blank_unattended(x: &Tensor, batch: &Batch) -> Result<Tensor> {
    if batch.texts().all(|(_, rows, attended)| rows == attended) {
        Ok(x.clone())
    } else if fused(x) {
        x.apply_op1_no_bwd(&Blank(batch))
    } else {
        composed::blank_unattended(x, batch)
    }
}

struct Blank<'a>(&'a Batch);

impl CustomOp1 for Blank<'_> {
    fn name(&self) -> &'static str {
        "blank unattended"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows(storage, layout)?;
        if x.count != self.0.ids().len() {
            candle_core::bail!("blank unattended: got {} rows for {} tokens", x.count, self.0.ids().len())
        }
        let mut out = vec![0.0; x.count * x.width];
        for (start, _, attended) in self.0.texts() {
            for index in start..start + attended {
                out[index * x.width..][..x.width].copy_from_slice(x.row(index));
            }
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
