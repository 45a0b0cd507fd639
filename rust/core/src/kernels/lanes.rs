//! One register of float32 numbers of each kind of processor.

/// A register of [`WIDTH`](Lanes::WIDTH) numbers.
///
/// # Safety
/// Every function may be called only where the instructions exist; pointers must be valid for `WIDTH` numbers (one for
/// `splat`), and need no alignment.
pub(super) trait Lanes: Copy {
    const WIDTH: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The number in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self + a * b`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// The larger of the two; of NaN either.
    unsafe fn max(self, other: Self) -> Self;
    /// Asks for the cache line of an address, which may be any.
    #[inline(always)]
    fn prefetch(_address: *const f32) {}
}

/// Implements [`Lanes`] by the names of intrinsics; what they are called is all that differs.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! lanes {
    ($register:ty, $width:literal, $zero:expr, $load:ident, $splat:expr, $store:ident, $fma:expr, $max:ident, $prefetch:expr) => {
        impl Lanes for $register {
            const WIDTH: usize = $width;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller vouches for the instruction.
                unsafe { $zero }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller vouches for the instruction and the pointer.
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn splat(from: *const f32) -> Self {
                // SAFETY: the caller vouches for the instruction and the pointer.
                unsafe { $splat(*from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller vouches for the instruction and the pointer.
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                // SAFETY: the caller vouches for the instruction.
                unsafe { $fma(self, a, b) }
            }

            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction.
                unsafe { $max(self, other) }
            }

            #[inline(always)]
            fn prefetch(address: *const f32) {
                $prefetch(address)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: every x86-64 has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[rustfmt::skip]
    lanes!(
        __m512, 16, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
        |sum, a, b| _mm512_fmadd_ps(a, b, sum), _mm512_max_ps, prefetch
    );
    #[rustfmt::skip]
    lanes!(
        __m256, 8, _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        |sum, a, b| _mm256_fmadd_ps(a, b, sum), _mm256_max_ps, prefetch
    );
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Lanes;

    #[rustfmt::skip]
    lanes!(
        float32x4_t, 4, vdupq_n_f32(0.0), vld1q_f32, vdupq_n_f32, vst1q_f32,
        vfmaq_f32, vmaxq_f32, |_| ()
    );
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use std::arch::wasm32::*;

    use super::Lanes;

    impl Lanes for v128 {
        const WIDTH: usize = 4;

        #[inline(always)]
        unsafe fn zero() -> Self {
            f32x4_splat(0.0)
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for the pointer.
            unsafe { v128_load(from.cast()) }
        }

        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: the caller vouches for the pointer.
            unsafe { v128_load32_splat(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for the pointer.
            unsafe { v128_store(to.cast(), self) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            f32x4_add(self, f32x4_mul(a, b))
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            f32x4_pmax(self, other)
        }
    }
}

/// Four numbers that the compiler puts where it likes.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Lanes for Plain {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the pointer.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the pointer.
        Self([unsafe { *from }; 4])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        let ([s0, s1, s2, s3], [a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, a.0, b.0);
        Self([s0 + a0 * b0, s1 + a1 * b1, s2 + a2 * b2, s3 + a3 * b3])
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        let larger = |x: f32, y: f32| if x > y { x } else { y };
        let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = (self.0, other.0);
        Self([larger(x0, y0), larger(x1, y1), larger(x2, y2), larger(x3, y3)])
    }
}
