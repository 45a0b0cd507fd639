//! Half precision to single.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

#[cfg(target_arch = "x86_64")]
use super::Path;
use super::Simd;

/// Writes every value in single precision, exactly. The values that follow them in memory, as many again, are asked for
/// meanwhile: they are likely the next ones.
///
/// # Panics
/// If the slices differ in length.
pub(crate) fn widen(simd: Simd, from: &[f16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "as many values come out as go in");
    match simd.0 {
        // SAFETY: a `Simd` proves that the instructions exist.
        #[cfg(target_arch = "x86_64")]
        Path::Amx | Path::Avx512 => unsafe { avx512(from, to) },
        // SAFETY: the same.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { f16c(from, to) },
        _ => from.convert_to_f32_slice(to),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(from: &[f16], to: &mut [f32]) {
    use std::arch::x86_64::*;

    let ((halves, tail), (singles, rest)) = (from.as_chunks::<16>(), to.as_chunks_mut::<16>());
    for (halves, singles) in halves.iter().zip(singles) {
        // SAFETY: both are 16 values long, and the instructions ask for no alignment; a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(halves.as_ptr().wrapping_add(from.len()).cast());
            let wide = _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()));
            _mm512_storeu_ps(singles.as_mut_ptr(), wide);
        }
    }
    tail.convert_to_f32_slice(rest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
unsafe fn f16c(from: &[f16], to: &mut [f32]) {
    use std::arch::x86_64::*;

    let ((halves, tail), (singles, rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    for (halves, singles) in halves.iter().zip(singles) {
        // SAFETY: both are 8 values long, and the instructions ask for no alignment; a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(halves.as_ptr().wrapping_add(from.len()).cast());
            let wide = _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast()));
            _mm256_storeu_ps(singles.as_mut_ptr(), wide);
        }
    }
    tail.convert_to_f32_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_becomes_the_same_single_on_every_path() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for (simd, len) in
            Simd::available().into_iter().flat_map(|simd| [0, 5, 8, 16, 37, 1 << 16].map(|n| (simd, n)))
        {
            let mut singles = vec![0.0; len];
            widen(simd, &halves[..len], &mut singles);
            for (half, single) in halves.iter().zip(&singles) {
                let want = half.to_f32();
                assert!(*single == want || (single.is_nan() && want.is_nan()), "{half} became {single}");
            }
        }
    }
}
