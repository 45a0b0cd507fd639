//! Rotary position embedding.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{composed, fused, rows, timed_simple};
use crate::batch::Batch;

/// Rotates the two halves of every head by an angle that grows with the token's position in its own text.
///
/// Angles are products of float32 numbers, as in transformers, whose rounding at far positions is part of the model.
pub struct Rope {
    frequencies: Vec<f32>,
    /// Grows with the longest text seen so far: a model may know 128,000 positions and never meet the last of them.
    table: Mutex<Arc<Table>>,
}

/// Cosines and sines, one row of half a head a position.
#[derive(Default)]
struct Table {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// For heads of `head_size` (even) columns at base `theta`.
    pub fn new(head_size: usize, theta: f64) -> Result<Self> {
        if head_size == 0 || !head_size.is_multiple_of(2) {
            candle_core::bail!("rope: got heads of {head_size}, wanted an even size")
        }
        let exponent = |i: usize| f64::from(i as f32 / head_size as f32);
        let frequencies = (0..head_size).step_by(2).map(|i| 1.0 / theta.powf(exponent(i)) as f32).collect();
        Ok(Self { frequencies, table: Mutex::default() })
    }

    /// `[tokens, heads * head_size] -> ` the same, every head rotated.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        timed_simple("rope", || self.compute(x, batch))
    }

    fn compute(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let table = self.table(batch.texts().map(|(_, rows, _)| rows).max().unwrap_or(0));
        if fused(x) {
            return x.apply_op1_no_bwd(&Rotation { table: &table, half: self.frequencies.len(), batch });
        }
        let half = self.frequencies.len();
        let rows = |values: &[f32]| -> Result<Tensor> {
            let rows: Vec<f32> =
                batch.positions().flat_map(|p| values[p as usize * half..][..half].to_vec()).collect();
            Tensor::from_vec(rows, (batch.ids().len(), 1, half), x.device())
        };
        composed::rotate(x, &rows(&table.cos)?, &rows(&table.sin)?)
    }

    /// A table of at least so many positions.
    fn table(&self, positions: usize) -> Arc<Table> {
        // Nobody waits: a child that is forked while another thread holds the lock finds it held for ever, and goes without.
        let known = self.table.try_lock().map(|table| table.clone()).unwrap_or_default();
        if known.cos.len() >= positions * self.frequencies.len() {
            return known;
        }
        let table = Arc::new(Table::new(positions.next_power_of_two(), &self.frequencies));
        if let Ok(mut kept) = self.table.try_lock()
            && kept.cos.len() < table.cos.len()
        {
            *kept = table.clone();
        }
        table
    }
}

impl Table {
    fn new(positions: usize, frequencies: &[f32]) -> Self {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        let (sin, cos) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
        Self { cos, sin }
    }
}

struct Rotation<'a> {
    table: &'a Table,
    half: usize,
    batch: &'a Batch,
}

impl CustomOp1 for Rotation<'_> {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows(storage, layout)?;
        let half = self.half;
        if x.width % (2 * half) != 0 || x.count != self.batch.ids().len() {
            candle_core::bail!("rope of heads of {}: got {} rows of {}", 2 * half, x.count, x.width)
        }
        let mut out = Vec::with_capacity(x.count * x.width);
        for (index, position) in self.batch.positions().enumerate() {
            let place = position as usize * half;
            let (cos, sin) = (&self.table.cos[place..][..half], &self.table.sin[place..][..half]);
            for head in x.row(index).chunks_exact(2 * half) {
                let (first, second) = head.split_at(half);
                out.extend((0..half).map(|i| first[i] * cos[i] - second[i] * sin[i]));
                out.extend((0..half).map(|i| first[i] * sin[i] + second[i] * cos[i]));
            }
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
