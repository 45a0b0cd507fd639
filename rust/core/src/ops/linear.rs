//! `act(x W' + b)` and the residual, in one pass over the result.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::{Activation, Matrix, Rows, Store, composed, fused, matmul};

/// Columns of a panel. The product streams through one panel after the other, which for the few rows of a query is
/// half as fast again as striding through the whole matrix, and for many rows costs nothing.
const PANEL: usize = 64;

/// A linear layer with its bias and activation. The weights are held as the kernel wants them, so what went in
/// cannot be read back.
pub struct Linear {
    form: Form,
    in_features: usize,
    out_features: usize,
    activation: Activation,
}

enum Form {
    /// The transposed weight in panels of [`PANEL`] columns, each `[in_features, columns]` and contiguous.
    Packed { panels: Vec<f32>, bias: Option<Vec<f32>> },
    /// As the checkpoint stores it.
    Plain { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// From a weight `[out_features, in_features]` and a bias `[out_features]`, as checkpoints store them.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Self> {
        let (out_features, in_features) = weight.dims2()?;
        if in_features == 0 || out_features == 0 || bias.is_some_and(|b| b.dims() != [out_features]) {
            candle_core::bail!(
                "linear {in_features} -> {out_features}: wanted sizes of at least 1 and a bias for each output"
            )
        }
        let form = if fused(weight) {
            let panels = pack(&weight.flatten_all()?.to_vec1()?, in_features);
            Form::Packed { panels, bias: bias.map(Tensor::to_vec1).transpose()? }
        } else {
            Form::Plain { weight: weight.clone(), bias: bias.cloned() }
        };
        Ok(Self { form, in_features, out_features, activation })
    }

    /// The number of features of a result's row.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// `[tokens, in_features] -> [tokens, out_features]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.form {
            Form::Packed { panels, bias } => x.apply_op1_no_bwd(&Packed { linear: self, panels, bias }),
            Form::Plain { weight, bias } => composed::linear(x, weight, bias.as_ref(), self.activation, None),
        }
    }

    /// The same, with `residual [tokens, out_features]` added after the activation.
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.form {
            Form::Packed { panels, bias } => {
                x.apply_op2_no_bwd(residual, &Packed { linear: self, panels, bias })
            }
            Form::Plain { weight, bias } => {
                composed::linear(x, weight, bias.as_ref(), self.activation, Some(residual))
            }
        }
    }
}

struct Packed<'a> {
    linear: &'a Linear,
    panels: &'a [f32],
    bias: &'a Option<Vec<f32>>,
}

impl Packed<'_> {
    fn run(&self, x: Rows, residual: Option<Rows>) -> Result<(CpuStorage, Shape)> {
        let Linear { in_features, out_features: n, activation, .. } = *self.linear;
        if x.width != in_features || residual.is_some_and(|r| (r.count, r.width) != (x.count, n)) {
            candle_core::bail!(
                "linear {in_features} -> {n}: got rows of {}, or a residual of another size",
                x.width
            )
        }
        // The product is accumulated over the bias.
        let mut out = match self.bias {
            Some(bias) => bias.repeat(x.count),
            None => vec![0.0; x.count * n],
        };
        let a = Matrix::rows(x.data, x.stride);
        for (index, panel) in self.panels.chunks(PANEL * in_features).enumerate() {
            let columns = panel.len() / in_features;
            let size = (x.count, in_features, columns);
            let out = (&mut out[index * PANEL..], n);
            matmul(size, a, Matrix::rows(panel, columns), out, Store::Added);
        }
        activation.apply(&mut out);
        if let Some(residual) = residual {
            for (index, row) in out.chunks_exact_mut(n).enumerate() {
                row.iter_mut().zip(residual.row(index)).for_each(|(y, r)| *y += r);
            }
        }
        Ok((CpuStorage::F32(out), Shape::from((x.count, n))))
    }
}

/// `[out, in]` row after row -> panels.
fn pack(weight: &[f32], in_features: usize) -> Vec<f32> {
    let mut panels = vec![0.0; weight.len()];
    let size = PANEL * in_features;
    for (panel, rows) in panels.chunks_mut(size).zip(weight.chunks(size)) {
        let columns = rows.len() / in_features;
        for (column, row) in rows.chunks_exact(in_features).enumerate() {
            panel[column..].iter_mut().step_by(columns).zip(row).for_each(|(place, x)| *place = *x);
        }
    }
    panels
}

impl CustomOp1 for Packed<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(Rows::new(x, x_layout)?, None)
    }
}

impl CustomOp2 for Packed<'_> {
    fn name(&self) -> &'static str {
        "linear with residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(Rows::new(x, x_layout)?, Some(Rows::new(residual, residual_layout)?))
    }
}
