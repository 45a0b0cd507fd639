//! Gated activations: GeGLU, SwiGLU and their like.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{Activation, composed, fused, rows, simd, timed_simple};
use crate::kernels;

/// `[tokens, 2 n] -> [tokens, n]`: the activation of the first half of every row, times the second half.
pub fn gate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    timed_simple("gate", || {
        if fused(x) { x.apply_op1_no_bwd(&Gate(activation)) } else { composed::gate(x, activation) }
    })
}

struct Gate(Activation);

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows(storage, layout)?;
        let half = x.width / 2;
        if half * 2 != x.width {
            candle_core::bail!("gate: got rows of {}, wanted an even number", x.width)
        }
        let mut out = vec![0.0; x.count * half];
        kernels::gate(simd()?, self.0, x, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((x.count, half))))
    }
}
