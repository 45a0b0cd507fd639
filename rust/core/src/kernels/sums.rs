//! Sums of products in every precision: what `block` keeps in registers.
//!
//! A word holds one float32, two bfloat16 or four whole numbers of consecutive inputs, and a step multiplies such a
//! group.

use super::lanes::Lanes;

/// A register of sums, one a column.
///
/// # Safety
/// Every function may be called only where the instructions exist; pointers must be valid for what is said of them, and
/// need no alignment.
pub(super) trait Sums: Copy {
    /// Columns of a register.
    const WIDTH: usize;
    /// How many rows of two registers of sums each leave room for the operands.
    const ROWS: usize;
    /// Words of a row that a step takes.
    const STEP: usize;
    /// Whether the sums are whole numbers.
    const WHOLE: bool = false;
    /// A group of a row, for every column.
    type Shared: Copy;
    /// A group of every column.
    type Columns: Copy;

    unsafe fn zero() -> Self;
    /// From `STEP` words.
    unsafe fn share(from: *const u32) -> Self::Shared;
    /// From `WIDTH` words.
    unsafe fn load(from: *const u32) -> Self::Columns;
    unsafe fn add(self, x: Self::Shared, w: Self::Columns) -> Self;
    /// As `WIDTH` words: float32, or whole numbers if those were multiplied.
    unsafe fn store(self, to: *mut u32);
}

/// Float32.
#[derive(Clone, Copy)]
pub(super) struct Singles<V>(V);

impl<V: Lanes> Sums for Singles<V> {
    const WIDTH: usize = V::WIDTH;
    const ROWS: usize = V::ROWS;
    const STEP: usize = 1;
    type Shared = V;
    type Columns = V;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise, as everywhere here.
        Self(unsafe { V::zero() })
    }

    #[inline(always)]
    unsafe fn share(from: *const u32) -> V {
        // SAFETY: as above.
        unsafe { V::splat(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> V {
        // SAFETY: as above.
        unsafe { V::load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(self, x: V, w: V) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.add_product(x, w) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: as above.
        unsafe { self.0.store(to.cast()) }
    }
}

/// Pairs of bfloat16, multiplied as the float32 that they are. Rows come widened: two words a step.
#[derive(Clone, Copy)]
pub(super) struct Bfloats<V>(V);

impl<V: Lanes> Sums for Bfloats<V> {
    const WIDTH: usize = V::WIDTH;
    const ROWS: usize = V::ROWS - 1;
    const STEP: usize = 2;
    type Shared = [V; 2];
    type Columns = [V; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: as above.
        Self(unsafe { V::zero() })
    }

    #[inline(always)]
    unsafe fn share(from: *const u32) -> [V; 2] {
        // SAFETY: as above.
        unsafe { [V::splat(from.cast()), V::splat(from.add(1).cast())] }
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> [V; 2] {
        // SAFETY: as above.
        unsafe { V::load(from.cast()).bfloats() }
    }

    #[inline(always)]
    unsafe fn add(self, x: [V; 2], w: [V; 2]) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.add_product(x[0], w[0]).add_product(x[1], w[1]) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: as above.
        unsafe { self.0.store(to.cast()) }
    }
}

/// Fours of whole numbers, unsigned in rows and signed in columns, as any compiler can multiply them.
#[derive(Clone, Copy)]
pub(super) struct Whole([i32; 4]);

impl Sums for Whole {
    const WIDTH: usize = 4;
    const ROWS: usize = 4;
    const STEP: usize = 1;
    const WHOLE: bool = true;
    type Shared = [u8; 4];
    type Columns = [[i8; 4]; 4];

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 4])
    }

    #[inline(always)]
    unsafe fn share(from: *const u32) -> [u8; 4] {
        // SAFETY: as above.
        unsafe { from.read_unaligned() }.to_le_bytes()
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> [[i8; 4]; 4] {
        // SAFETY: as above; any byte is a number.
        unsafe { from.cast::<[[i8; 4]; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add(self, x: [u8; 4], w: [[i8; 4]; 4]) -> Self {
        let dot = |w: [i8; 4]| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|k: usize| i32::from(x[k]) * i32::from(w[k]));
            a.wrapping_add(b).wrapping_add(c.wrapping_add(d))
        };
        let ([s0, s1, s2, s3], [w0, w1, w2, w3]) = (self.0, w);
        let add = |sum: i32, w| sum.wrapping_add(dot(w));
        Self([add(s0, w0), add(s1, w1), add(s2, w2), add(s3, w3)])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: as above.
        unsafe { to.cast::<[i32; 4]>().write_unaligned(self.0) }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) mod wasm {
    use std::arch::wasm32::*;

    use super::Sums;

    /// Fours of whole numbers as 16-bit ones, 8 products an instruction. A register holds two sums a column.
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Whole128(v128);

    impl Sums for Whole128 {
        const WIDTH: usize = 2;
        const ROWS: usize = 4;
        const STEP: usize = 1;
        const WHOLE: bool = true;
        type Shared = v128;
        type Columns = v128;

        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(i32x4_splat(0))
        }

        #[inline(always)]
        unsafe fn share(from: *const u32) -> v128 {
            // SAFETY: as above.
            u16x8_extend_low_u8x16(unsafe { v128_load32_splat(from) })
        }

        #[inline(always)]
        unsafe fn load(from: *const u32) -> v128 {
            // SAFETY: as above.
            unsafe { i16x8_load_extend_i8x8(from.cast()) }
        }

        #[inline(always)]
        unsafe fn add(self, x: v128, w: v128) -> Self {
            Self(i32x4_add(self.0, i32x4_dot_i16x8(x, w)))
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut u32) {
            let sums = i32x4_add(self.0, i32x4_shuffle::<1, 0, 3, 2>(self.0, self.0));
            // SAFETY: as above.
            unsafe { v128_store64_lane::<0>(i32x4_shuffle::<0, 2, 4, 6>(sums, sums), to.cast()) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::Sums;

    /// Implements [`Sums`] for an instruction of AVX-512 that multiplies words; what it adds them up in is all that differs.
    macro_rules! sums512 {
        ($name:ident, whole: $whole:literal, $zero:ident, $add:expr, $store:expr) => {
            impl Sums for $name {
                const WIDTH: usize = 16;
                const ROWS: usize = 12;
                const STEP: usize = 1;
                const WHOLE: bool = $whole;
                type Shared = __m512i;
                type Columns = __m512i;

                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $zero() })
                }

                #[inline(always)]
                unsafe fn share(from: *const u32) -> __m512i {
                    // SAFETY: as above.
                    unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
                }

                #[inline(always)]
                unsafe fn load(from: *const u32) -> __m512i {
                    // SAFETY: as above.
                    unsafe { _mm512_loadu_si512(from.cast()) }
                }

                #[inline(always)]
                unsafe fn add(self, x: __m512i, w: __m512i) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add(self.0, x, w) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut u32) {
                    // SAFETY: as above.
                    unsafe { $store(to.cast(), self.0) }
                }
            }
        };
    }

    /// Pairs of bfloat16 by one instruction, 32 products each: AVX-512 with BF16.
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Bfloats512(__m512);

    // The words are the same 64 bytes by another name.
    sums512!(
        Bfloats512, whole: false, _mm512_setzero_ps,
        |sum, x, w| _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(x), transmute::<__m512i, __m512bh>(w)),
        _mm512_storeu_ps
    );

    /// Fours of whole numbers by one instruction, 64 products each: AVX-512 with VNNI.
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Whole512(__m512i);

    sums512!(Whole512, whole: true, _mm512_setzero_si512, _mm512_dpbusd_epi32, _mm512_storeu_si512);

    /// Fours of whole numbers as 16-bit ones, 16 products an instruction: AVX2. A register holds two sums a column.
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Whole256(__m256i);

    impl Sums for Whole256 {
        const WIDTH: usize = 4;
        const ROWS: usize = 6;
        const STEP: usize = 1;
        const WHOLE: bool = true;
        type Shared = __m256i;
        type Columns = __m256i;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_setzero_si256() })
        }

        #[inline(always)]
        unsafe fn share(from: *const u32) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_cvtepu8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned())) }
        }

        #[inline(always)]
        unsafe fn load(from: *const u32) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn add(self, x: __m256i, w: __m256i) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_add_epi32(self.0, _mm256_madd_epi16(x, w)) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut u32) {
            // SAFETY: as above.
            unsafe {
                let (low, high) = (_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
                _mm_storeu_si128(to.cast(), _mm_hadd_epi32(low, high));
            }
        }
    }
}
