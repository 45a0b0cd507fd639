//! The one loop: a tile of the product of rows and packed columns, held in registers.

use super::lanes::{Lanes, Plain};
use super::{Path, Simd};

/// Rows of `depth` numbers, one after the other, and columns packed by [`super::Panels`].
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) rows: &'a [f32],
    /// Panels of twice `width(simd)` columns, a row of each panel for every one of the `depth` numbers; the last panel
    /// may be half as wide.
    pub(super) panels: &'a [f32],
    pub(super) depth: usize,
    /// The number of columns, those that fill the last panel among them.
    pub(super) stride: usize,
}

/// What becomes of a product.
pub(super) enum Sink<'a> {
    /// `[rows, stride]`, row after row.
    Store(&'a mut [f32]),
    /// `[stride]`: each column's largest.
    Maxima(&'a mut [f32]),
}

/// How many columns a register holds: what a last panel is filled up to.
pub(super) fn width(simd: Simd) -> usize {
    match simd.0 {
        #[cfg(target_arch = "x86_64")]
        Path::Amx | Path::Avx512 => 16,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => 8,
        _ => 4,
    }
}

/// Multiplies every row with every column, adding up in the order of the depth. False if a product is not finite.
///
/// # Panics
/// If the slices do not have the sizes that their descriptions say.
pub(super) fn multiply(simd: Simd, operands: Operands, sink: Sink) -> bool {
    let rows = operands.rows.len().checked_div(operands.depth).unwrap_or(0);
    let room = match &sink {
        Sink::Store(out) => out.len() == rows * operands.stride,
        Sink::Maxima(best) => best.len() == operands.stride,
    };
    assert!(
        room && rows * operands.depth == operands.rows.len()
            && operands.stride.is_multiple_of(width(simd))
            && operands.panels.len() == operands.stride * operands.depth,
        "the operands of a product do not fit together"
    );
    // SAFETY: the assertion is what the functions ask for, and a `Simd` proves that the instructions exist.
    unsafe {
        match simd.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Amx | Path::Avx512 => avx512(operands, sink),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => avx2(operands, sink),
            #[cfg(target_arch = "aarch64")]
            Path::Neon => walk::<std::arch::aarch64::float32x4_t, 12, 4>(operands, sink),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Path::Simd128 => walk::<std::arch::wasm32::v128, 4, 2>(operands, sink),
            Path::Portable => walk::<Plain, 6, 3>(operands, sink),
        }
    }
}

/// 24 of 32 registers hold a tile.
///
/// # Safety
/// As [`walk`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(operands: Operands, sink: Sink) -> bool {
    // SAFETY: the caller's promise.
    unsafe { walk::<std::arch::x86_64::__m512, 12, 4>(operands, sink) }
}

/// 12 of 16 registers hold a tile.
///
/// # Safety
/// As [`walk`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(operands: Operands, sink: Sink) -> bool {
    // SAFETY: the caller's promise.
    unsafe { walk::<std::arch::x86_64::__m256, 6, 3>(operands, sink) }
}

/// Tiles of `BIG` rows, at the end some of `SMALL` or of one. The last tile may cover rows again that had their turn:
/// to store or to compare a number twice changes nothing.
///
/// # Safety
/// The instructions of `V` exist, and the sizes are those that [`multiply`] asserts.
#[inline(always)]
unsafe fn walk<V: Lanes, const BIG: usize, const SMALL: usize>(operands: Operands, mut sink: Sink) -> bool {
    let Operands { rows, panels, depth, stride } = operands;
    let count = rows.len() / depth;
    // SAFETY: a tile reads `R` rows from `row` on, which are there, and `W` registers of columns from `column` on,
    // whose panel begins at `column * depth`; it writes to the same rows and columns of the sink.
    unsafe {
        let mut check = V::zero();
        let mut column = 0;
        while column < stride {
            let panel = panels.as_ptr().add(column * depth);
            let wide = stride - column >= 2 * V::WIDTH;
            let mut row = 0;
            while row < count {
                let (size, place) = match count - row {
                    left if left >= BIG => (BIG, row),
                    _ if count >= SMALL => (SMALL, row.min(count - SMALL)),
                    _ => (1, row),
                };
                let tile =
                    Tile { rows: rows.as_ptr().add(place * depth), panel, depth, place, column, stride };
                check = match (size == BIG, size == SMALL, wide) {
                    (true, _, true) => tile.run::<V, BIG, 2>(&mut sink, check),
                    (true, _, false) => tile.run::<V, BIG, 1>(&mut sink, check),
                    (_, true, true) => tile.run::<V, SMALL, 2>(&mut sink, check),
                    (_, true, false) => tile.run::<V, SMALL, 1>(&mut sink, check),
                    (_, _, true) => tile.run::<V, 1, 2>(&mut sink, check),
                    (_, _, false) => tile.run::<V, 1, 1>(&mut sink, check),
                };
                row = place + size;
            }
            column += if wide { 2 * V::WIDTH } else { V::WIDTH };
        }
        let mut lanes = [0.0f32; 16];
        check.store(lanes.as_mut_ptr());
        lanes.iter().all(|lane| *lane == 0.0)
    }
}

/// Where a tile stands.
struct Tile {
    rows: *const f32,
    panel: *const f32,
    depth: usize,
    place: usize,
    column: usize,
    stride: usize,
}

impl Tile {
    /// Gives back `check`, with NaN in it if a product is not finite.
    ///
    /// # Safety
    /// The instructions of `V` exist, `R` rows and `W` registers of columns are there, in the operands and in the sink.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // counted loops are unrolled whole, and the sums stay in registers
    unsafe fn run<V: Lanes, const R: usize, const W: usize>(&self, sink: &mut Sink, mut check: V) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = V::zero();
            let mut sums = [[zero; W]; R];
            // Pointers that step, since an index would be checked for overflow in the innermost loop, and a tile that
            // is used after a check may not stay in registers.
            let mut rows = [self.rows; R];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = row.add(r * self.depth);
            }
            let mut panel = self.panel;
            // The rows of the next tile, so that they come from memory while this one is computed.
            let mut ahead = self.rows.wrapping_add(R * self.depth);
            for k in 0..self.depth {
                V::prefetch(ahead);
                ahead = ahead.wrapping_add(R);
                let mut columns = [zero; W];
                for (w, column) in columns.iter_mut().enumerate() {
                    *column = V::load(panel.add(w * V::WIDTH));
                }
                panel = panel.add(W * V::WIDTH);
                for r in 0..R {
                    let x = V::splat(rows[r].add(k));
                    for w in 0..W {
                        sums[r][w] = sums[r][w].add_product(x, columns[w]);
                    }
                }
            }
            // 0 times a number is 0, times infinity or NaN it is NaN.
            for r in 0..R {
                for w in 0..W {
                    check = check.add_product(sums[r][w], zero);
                }
            }
            match sink {
                Sink::Store(out) => {
                    let out = out.as_mut_ptr().add(self.place * self.stride + self.column);
                    for r in 0..R {
                        for w in 0..W {
                            sums[r][w].store(out.add(r * self.stride + w * V::WIDTH));
                        }
                    }
                }
                Sink::Maxima(best) => {
                    let best = best.as_mut_ptr().add(self.column);
                    for w in 0..W {
                        let mut most = V::load(best.add(w * V::WIDTH));
                        for r in 0..R {
                            most = most.max(sums[r][w]);
                        }
                        most.store(best.add(w * V::WIDTH));
                    }
                }
            }
            check
        }
    }
}
