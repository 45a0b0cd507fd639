//! One vector a text: what all encoders into single vectors share, their checks, their memory and their threads.

use multiversion::multiversion;

use crate::error::{Error, Result};
use crate::kernels::Cpu;
use crate::matrices::Matrices;
use crate::maxsim::check;
use crate::memory;
use crate::queue::{self, GoOn, Observer};

/// Texts a thread takes at a time.
const JOB: usize = 4;

/// A vector of `size` zeros for each text, filled by `encode` from the text's rows, so that a row's NaN or infinity is
/// not lost.
pub(crate) fn one_each(
    name: &str,
    texts: &Matrices,
    size: usize,
    cpu: Cpu,
    observer: Observer,
    encode: impl Fn(&[f32], &mut [f32], GoOn) -> Result<()> + Sync,
) -> Result<Vec<f32>> {
    let mut vectors = memory::try_zeros(texts.len().saturating_mul(size)).ok_or_else(|| {
        let got = format!("{} texts, whose vectors of {size} values do not fit into memory", texts.len());
        Error::argument(name, got, "fewer at a time")
    })?;
    let work = |(job, vectors): (usize, &mut [f32]), go_on: GoOn| -> Result<usize> {
        let mut scratch = Vec::new();
        for (index, vector) in (job * JOB..).zip(vectors.chunks_exact_mut(size)) {
            let matrix = texts.get(index);
            if matrix.len() > 0 {
                encode(matrix.widened(cpu.simd, &mut scratch), vector, &mut *go_on)?;
            }
            // What is not finite among the rows is not finite here either.
            if matrix.len() == 0 || !all_finite(vector) {
                check(name, texts, index)?;
                let index = texts.original(index);
                let got = format!("rows that add up to more than float32 holds at [{index}]");
                return Err(Error::argument(name, got, "values of moderate size, unit rows say"));
            }
        }
        Ok(vectors.len() / size)
    };
    queue::run(vectors.chunks_mut(JOB * size).enumerate().collect(), cpu.threads, || work, observer)?;
    Ok(vectors)
}

/// Without an early end, so that many are looked at together.
#[multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma"))]
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, x| finite & (x.abs() < f32::INFINITY))
}
