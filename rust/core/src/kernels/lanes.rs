//! One register of float32 numbers of each kind of processor.

use super::sums::{Sums, Whole};
use super::{Path, Simd};

/// A loop that is written once for all registers.
pub(super) trait Kernel {
    /// # Safety
    /// The instructions of `V` exist, and what else the kernel asks for. It is to be inlined, as all that it calls: only
    /// then it is compiled for the instructions.
    unsafe fn run<V: Lanes>(self);
}

impl Simd {
    /// Runs a kernel in the widest registers.
    ///
    /// # Safety
    /// What the kernel asks for besides the instructions, which a `Simd` proves.
    pub(super) unsafe fn run(self, kernel: impl Kernel) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512(kernel: impl Kernel) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<std::arch::x86_64::__m512>() }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(kernel: impl Kernel) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<std::arch::x86_64::__m256>() }
        }

        // SAFETY: the caller's promise, and that a `Simd` is held.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Path::Amx | Path::Avx512 => avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => avx2(kernel),
                #[cfg(target_arch = "aarch64")]
                Path::Neon => kernel.run::<std::arch::aarch64::float32x4_t>(),
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                Path::Simd128 => kernel.run::<std::arch::wasm32::v128>(),
                Path::Portable => kernel.run::<Plain>(),
            }
        }
    }
}

/// A register of [`WIDTH`](Lanes::WIDTH) numbers.
///
/// # Safety
/// Every function may be called only where the instructions exist; pointers must be valid for `WIDTH` numbers (one for
/// `splat`), and need no alignment.
pub(super) trait Lanes: Copy {
    /// What multiplies whole numbers.
    type Whole: Sums;

    const WIDTH: usize;
    /// How many rows of two registers of sums each leave room for the operands.
    const ROWS: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The number in every lane.
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self + a * b`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The larger of the two; `other` if one is NaN, so that a NaN there comes out.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller of the two; `other` if one is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// The bits as whole numbers, in float32.
    unsafe fn whole(self) -> Self;
    /// The product with a Hadamard matrix, whose numbers are all 1 or -1.
    unsafe fn turned(self) -> Self;
    /// The two bfloat16 of every 32 bits as float32, the low ones first.
    unsafe fn bfloats(self) -> [Self; 2];
    /// Adds the low bits of `whole` to the exponent: `self * 2^n`, where `whole` is `n + 1.5 * 2^23` and the result a
    /// normal number.
    unsafe fn scale_exponent(self, whole: Self) -> Self;
    /// Asks for the cache line of an address, which may be any.
    #[inline(always)]
    fn prefetch(_address: *const f32) {}
}

/// Joins the numbers of registers, a power of two, half by half, so that no step waits for the one before.
#[inline(always)]
pub(super) fn joined<const N: usize>(mut lanes: [f32; N], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for place in 0..half {
            lanes[place] = join(lanes[place], lanes[place + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// 1 where a number is the first of two that stand `distance` apart, -1 where it is the second.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_feature = "simd128"))]
#[inline(always)]
fn signs(distance: usize) -> [f32; 16] {
    std::array::from_fn(|place| if place & distance == 0 { 1.0 } else { -1.0 })
}

/// Implements [`Lanes`] by the names of intrinsics; what they are called is all that differs.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! lanes {
    ($register:ty, $width:literal, $rows:literal, $zero:expr, $load:ident, $splat:expr, $store:ident, $fma:expr,
        [$($name:ident: $two:expr),*], $whole:expr, $bfloats:expr, [$($swap:expr),*], $prefetch:expr) => {
        impl Lanes for $register {
            type Whole = crate::kernels::sums::Whole;

            const WIDTH: usize = $width;
            const ROWS: usize = $rows;

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

            $(#[inline(always)]
            unsafe fn $name(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instruction.
                unsafe { $two(self, other) }
            })*

            #[inline(always)]
            unsafe fn whole(self) -> Self {
                // SAFETY: the caller vouches for the instruction.
                unsafe { $whole(self) }
            }

            #[inline(always)]
            unsafe fn turned(self) -> Self {
                let (mut all, mut distance) = (self, 1);
                // SAFETY: the caller vouches for the instructions; there are 16 signs.
                unsafe {
                    $(
                        let plus_minus = Self::load(signs(distance).as_ptr());
                        all = $swap(all).add_product(all, plus_minus);
                        distance *= 2;
                    )*
                }
                let _ = distance;
                all
            }

            #[inline(always)]
            unsafe fn bfloats(self) -> [Self; 2] {
                // SAFETY: the caller vouches for the instruction.
                unsafe { $bfloats(self) }
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

    use super::{Lanes, signs};

    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: every x86-64 has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[rustfmt::skip]
    lanes!(
        __m512, 16, 12, _mm512_setzero_ps(), _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
        |sum, a, b| _mm512_fmadd_ps(a, b, sum),
        [add: _mm512_add_ps, sub: _mm512_sub_ps, mul: _mm512_mul_ps, div: _mm512_div_ps, max: _mm512_max_ps, min: _mm512_min_ps,
         scale_exponent: |x, whole| _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32::<23>(_mm512_castps_si512(whole))))],
        |x| _mm512_cvtepi32_ps(_mm512_castps_si512(x)),
        |x| [
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(x))),
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(-65536))),
        ], [|x| _mm512_permute_ps::<0xb1>(x), |x| _mm512_permute_ps::<0x4e>(x), |x| _mm512_shuffle_f32x4::<0xb1>(x, x), |x| _mm512_shuffle_f32x4::<0x4e>(x, x)], prefetch
    );
    #[rustfmt::skip]
    lanes!(
        __m256, 8, 6, _mm256_setzero_ps(), _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        |sum, a, b| _mm256_fmadd_ps(a, b, sum),
        [add: _mm256_add_ps, sub: _mm256_sub_ps, mul: _mm256_mul_ps, div: _mm256_div_ps, max: _mm256_max_ps, min: _mm256_min_ps,
         scale_exponent: |x, whole| _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32::<23>(_mm256_castps_si256(whole))))],
        |x| _mm256_cvtepi32_ps(_mm256_castps_si256(x)),
        |x| [
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x))),
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(-65536))),
        ], [|x| _mm256_permute_ps::<0xb1>(x), |x| _mm256_permute_ps::<0x4e>(x), |x| _mm256_permute2f128_ps::<1>(x, x)], prefetch
    );
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{Lanes, signs};

    #[rustfmt::skip]
    lanes!(
        float32x4_t, 4, 12, vdupq_n_f32(0.0), vld1q_f32, vdupq_n_f32, vst1q_f32,
        vfmaq_f32,
        [add: vaddq_f32, sub: vsubq_f32, mul: vmulq_f32, div: vdivq_f32, max: vmaxq_f32, min: vminq_f32,
         scale_exponent: |x, whole| vreinterpretq_f32_s32(vaddq_s32(
            vreinterpretq_s32_f32(x), vshlq_n_s32::<23>(vreinterpretq_s32_f32(whole))))],
        |x| vcvtq_f32_s32(vreinterpretq_s32_f32(x)),
        |x| [
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(x))),
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0xffff_0000))),
        ],
        [|x| vrev64q_f32(x), |x| vextq_f32::<2>(x, x)], |_| ()
    );
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use std::arch::wasm32::*;

    use super::super::sums::wasm::Whole128;
    use super::{Lanes, signs};

    impl Lanes for v128 {
        type Whole = Whole128;

        const WIDTH: usize = 4;
        const ROWS: usize = 4;

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
        unsafe fn add(self, other: Self) -> Self {
            f32x4_add(self, other)
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            f32x4_sub(self, other)
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            f32x4_mul(self, other)
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            f32x4_div(self, other)
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            f32x4_pmax(other, self)
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            f32x4_pmin(other, self)
        }

        #[inline(always)]
        unsafe fn whole(self) -> Self {
            f32x4_convert_i32x4(self)
        }

        #[inline(always)]
        unsafe fn turned(self) -> Self {
            // SAFETY: there are four signs.
            unsafe {
                let pairs = i32x4_shuffle::<1, 0, 3, 2>(self, self);
                let all = pairs.add_product(self, Self::load(signs(1).as_ptr()));
                i32x4_shuffle::<2, 3, 0, 1>(all, all).add_product(all, Self::load(signs(2).as_ptr()))
            }
        }

        #[inline(always)]
        unsafe fn bfloats(self) -> [Self; 2] {
            [i32x4_shl(self, 16), v128_and(self, i32x4_splat(-65536))]
        }

        #[inline(always)]
        unsafe fn scale_exponent(self, whole: Self) -> Self {
            i32x4_add(self, i32x4_shl(whole, 23))
        }
    }
}

/// Four numbers that the compiler puts where it likes.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Lanes for Plain {
    type Whole = Whole;

    const WIDTH: usize = 4;
    const ROWS: usize = 6;

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
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.with(other, |x, y| x - y)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |x, y| x * y)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.with(other, |x, y| x / y)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.with(other, |x, y| if x > y { x } else { y })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.with(other, |x, y| if x < y { x } else { y })
    }

    #[inline(always)]
    unsafe fn whole(self) -> Self {
        self.with(self, |x, _| x.to_bits() as i32 as f32)
    }

    #[inline(always)]
    unsafe fn turned(self) -> Self {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (a + b, a - b, c + d, c - d);
        Self([a + c, b + d, a - c, b - d])
    }

    #[inline(always)]
    unsafe fn bfloats(self) -> [Self; 2] {
        let (low, high) =
            (|x: f32| f32::from_bits(x.to_bits() << 16), |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000));
        [self.with(self, |x, _| low(x)), self.with(self, |x, _| high(x))]
    }

    #[inline(always)]
    unsafe fn scale_exponent(self, whole: Self) -> Self {
        self.with(whole, |x, n| f32::from_bits(x.to_bits().wrapping_add(n.to_bits() << 23)))
    }
}

impl Plain {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = (self.0, other.0);
        Self([f(x0, y0), f(x1, y1), f(x2, y2), f(x3, y3)])
    }
}
