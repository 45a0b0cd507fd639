//! The same operations put together from candle's own: for GPUs, and on the CPU for other precisions than float32.
//!
//! Every function takes and gives ragged `[tokens, features]` like its fused counterpart. Only [`attention`] pads, and
//! nothing of that leaves it.

use candle_core::{D, DType, Result, Tensor};

use super::{Activation, Heads, Mask};
use crate::batch::Batch;

/// `act(x W' + b)` with `weight [out, in]`, and the residual.
pub(super) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let y = x.contiguous()?.matmul(&weight.t()?)?;
    let y = bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))?;
    let y = activate(&y, activation)?;
    residual.map_or(Ok(y.clone()), |residual| &y + residual)
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(x.clone()),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
    }
}

pub(super) fn gate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let half = x.dim(1)? / 2;
    activate(&x.narrow(1, 0, half)?, activation)? * x.narrow(1, half, half)?
}

/// Sums of squares want more than half precision.
fn wide(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::F64 { Ok(x.clone()) } else { x.to_dtype(DType::F32) }
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let y = wide(x)?;
    let y = y.broadcast_sub(&y.mean_keepdim(D::Minus1)?)?;
    let scale = (y.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let y = y.broadcast_div(&scale)?.to_dtype(x.dtype())?.broadcast_mul(weight)?;
    bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let features = weight.dims1()?;
    let y = wide(&x.contiguous()?.reshape((rows, width / features, features))?)?;
    let scale = (y.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    y.broadcast_div(&scale)?.to_dtype(x.dtype())?.broadcast_mul(weight)?.reshape((rows, width))
}

/// The rows of `table` at `indices`.
pub(super) fn lookup(table: &Tensor, indices: &[u32]) -> Result<Tensor> {
    table.index_select(&Tensor::new(indices, table.device())?, 0)
}

/// `cos` and `sin` are `[tokens, 1, half]`.
pub(super) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let half = cos.dim(2)?;
    let heads = wide(&x.contiguous()?.reshape((rows, width / (2 * half), 2 * half))?)?;
    let (cos, sin) = (cos.to_dtype(heads.dtype())?, sin.to_dtype(heads.dtype())?);
    let (first, second) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let rotated = [
        (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?,
        (first.broadcast_mul(&sin)? + second.broadcast_mul(&cos)?)?,
    ];
    Tensor::cat(&rotated, 2)?.to_dtype(x.dtype())?.reshape((rows, width))
}

pub(super) fn blank_unattended(x: &Tensor, batch: &Batch) -> Result<Tensor> {
    let keep =
        batch.texts().flat_map(|(_, rows, attended)| (0..rows).map(move |row| f32::from(row < attended)));
    let keep = Tensor::from_vec(keep.collect(), (batch.ids().len(), 1), x.device())?;
    x.broadcast_mul(&keep.to_dtype(x.dtype())?)
}

/// `taps [taps, features]`, the oldest token's first.
pub(super) fn short_conv(x: &Tensor, taps: &Tensor, bias: Option<&Tensor>, batch: &Batch) -> Result<Tensor> {
    let (count, features) = taps.dims2()?;
    let part = |index: usize| x.narrow(1, index * features, features);
    let gated = (part(0)? * part(2)?)?;
    let zero = Tensor::zeros((1, features), x.dtype(), x.device())?;
    let padded = Tensor::cat(&[zero, gated], 0)?;
    let mut sum = Tensor::zeros((x.dim(0)?, features), x.dtype(), x.device())?;
    for back in 0..count {
        // Row 0 is the zeros that stand before every text.
        let earlier = |(start, rows, _): (usize, usize, usize)| {
            (0..rows).map(move |row| if row < back { 0 } else { (start + row - back + 1) as u32 })
        };
        let rows: Vec<u32> = batch.texts().flat_map(earlier).collect();
        sum = (sum + lookup(&padded, &rows)?.broadcast_mul(&taps.narrow(0, count - 1 - back, 1)?)?)?;
    }
    let sum = bias.map_or(Ok(sum.clone()), |bias| sum.broadcast_add(bias))?;
    sum * part(1)?
}

pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    mask: Mask,
    batch: &Batch,
) -> Result<Tensor> {
    let texts: Vec<_> = batch.texts().collect();
    let longest = texts.iter().map(|(_, rows, _)| *rows).max().unwrap_or(0);
    let size = (texts.len(), longest, longest);
    // Rows of the padded batch by their place in the ragged one, and the reverse; padding repeats the first row.
    let padded = texts
        .iter()
        .flat_map(|&(start, rows, _)| (0..longest).map(move |r| if r < rows { start + r } else { 0 } as u32));
    let padded: Vec<u32> = padded.collect();
    let ragged = texts
        .iter()
        .enumerate()
        .flat_map(|(index, &(_, rows, _))| (0..rows).map(move |r| (index * longest + r) as u32));
    let ragged: Vec<u32> = ragged.collect();

    let mut bias = vec![f32::NEG_INFINITY; size.0 * size.1 * size.2];
    let mut sees = vec![0_f32; size.0 * size.1];
    for (index, &(_, _, attended)) in texts.iter().enumerate() {
        for row in 0..longest {
            let place = index * longest + row;
            let visible = mask.visible(row, attended);
            sees[place] = f32::from(!visible.is_empty());
            // A row that sees nothing is blanked after the softmax, which must not meet infinities only.
            let visible = if visible.is_empty() { 0..longest } else { visible };
            bias[place * longest..][visible].fill(0.0);
        }
    }
    let bias = Tensor::from_vec(bias, (size.0, 1, size.1, size.2), q.device())?;
    let sees = Tensor::from_vec(sees, (size.0, 1, size.1, 1), q.device())?.to_dtype(q.dtype())?;

    let by_head = |x: &Tensor, count: usize| -> Result<Tensor> {
        let x = lookup(&x.contiguous()?, &padded)?.reshape((size.0, longest, count, heads.size))?;
        x.transpose(1, 2)?.contiguous()
    };
    let shared = heads.query / heads.key_value;
    let repeated = |x: Tensor| -> Result<Tensor> {
        let x = x.unsqueeze(2)?.expand((size.0, heads.key_value, shared, longest, heads.size))?;
        x.contiguous()?.reshape((size.0, heads.query, longest, heads.size))
    };
    let q = (by_head(q, heads.query)? / (heads.size as f64).sqrt())?;
    let k = repeated(by_head(k, heads.key_value)?)?;
    let v = repeated(by_head(v, heads.key_value)?)?;
    let scores = wide(&q.matmul(&k.transpose(2, 3)?.contiguous()?)?)?;
    let scores = scores.broadcast_add(&bias.to_dtype(scores.dtype())?)?;
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?.to_dtype(q.dtype())?;
    let out = weights.matmul(&v)?.broadcast_mul(&sees)?;
    let out = out.transpose(1, 2)?.contiguous()?.reshape((size.0 * longest, heads.query * heads.size))?;
    lookup(&out, &ragged)
}
