//! The few operations that every encoder is written with: ragged candle tensors `[tokens, features]` in and out.
//!
//! This is the only place that knows kernels, dtypes and devices. A model builds [`Linear`], [`LayerNorm`] and
//! friends once, when its weights are loaded (so that a kernel may pack them as it likes), and then calls them; a
//! faster kernel or another device replaces what is inside, never a model.

mod activation;
mod attention;
mod embedding;
mod lanes;
mod layer_norm;
mod linear;
mod matmul;
mod rope;

pub use activation::Activation;
pub use attention::attention;
pub use embedding::Embedding;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub(crate) use matmul::{Matrix, Store, matmul};
pub use rope::Rope;

use candle_core::{CpuStorage, Layout};

/// The rows of a float32 tensor `[tokens, features]` whose rows are contiguous but may lie apart, as those of a
/// column slice do.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    count: usize,
    width: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Self> {
        let (count, width) = layout.shape().dims2()?;
        let [stride, 1] = *layout.stride() else {
            candle_core::bail!("wanted contiguous rows, got strides {:?}", layout.stride())
        };
        let data = &storage.as_slice::<f32>()?[layout.start_offset()..];
        Ok(Self { data, count, width, stride })
    }

    fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.width]
    }
}
