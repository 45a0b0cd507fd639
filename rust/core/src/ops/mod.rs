//! The few operations that every encoder is written with: ragged candle tensors `[tokens, features]` in and out.
//!
//! This is the only place that knows kernels, dtypes and devices. A model builds [`Linear`], [`LayerNorm`] and
//! friends once, when its weights are loaded (so that a kernel may pack them as it likes), and then calls them; a
//! faster kernel or another device replaces what is inside, never a model.

mod activation;
mod attention;
mod blank;
mod composed;
mod embedding;
mod gate;
mod lanes;
mod layer_norm;
mod linear;
mod matmul;
mod profile;
mod rms_norm;
mod rope;
mod short_conv;

pub use activation::Activation;
pub use attention::{Heads, Mask, attention};
pub use blank::blank_unattended;
pub use embedding::{Embedding, Numbering};
pub use gate::gate;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub(crate) use matmul::{Matrix, matmul};
pub use profile::{Spent, profile};
use profile::{timed, timed_simple};
pub use rms_norm::RmsNorm;
pub use rope::Rope;
pub use short_conv::ShortConv;

use candle_core::{CpuStorage, DType, Layout, Tensor};

pub use crate::kernels::Precision;
use crate::kernels::{self, Rows, Simd};

/// Whether the float32 kernels of this module compute with the tensor; else candle's own operations do, in whatever
/// precision and on whatever device it is.
fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The rows of a float32 tensor `[tokens, features]` whose rows are contiguous but may lie apart, as those of a
/// column slice do.
fn rows<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Rows<'a>> {
    let (count, width) = layout.shape().dims2()?;
    let [stride, 1] = *layout.stride() else {
        candle_core::bail!("wanted contiguous rows, got strides {:?}", layout.stride())
    };
    Ok(Rows::new(&storage.as_slice::<f32>()?[layout.start_offset()..], count, width, stride))
}

/// The instructions to compute with.
fn simd() -> candle_core::Result<Simd> {
    kernels::selected().map_err(candle_core::Error::wrap)
}
