//! The innermost loop of encoders: a few rows times a panel of packed columns, summed in registers.

use super::sums::Sums;

/// Columns of a panel, whatever the width of a register and the precision: 128 bytes a row of it.
pub(super) const PANEL: usize = 32;

/// The most rows of a block on any processor, in registers and by any multiplier.
pub(super) const REGISTER_ROWS: usize = 12;
pub(super) const MOST_ROWS: usize = 32;

/// What multiplies a block.
pub(super) trait Multiplier {
    /// The most rows of a block.
    const ROWS: usize;
    /// Words of a row that a step takes.
    const STEP: usize;
    /// How many rows, and steps of a row, are multiplied at once.
    const ROUND: usize;
    /// How many words of what is needed next are asked for in a step.
    const AHEAD: usize;
    /// Whether the products are whole numbers.
    const WHOLE: bool;

    /// Computes `count` rows of products, at most `ROWS`: each a sum in the order of the depth.
    ///
    /// # Safety
    /// The instructions exist; with `count` and `depth` rounded up to a multiple of `ROUND`, `count` rows of `depth` steps
    /// can be read, `depth` rows of [`PANEL`] of the panel, and `count` rows of [`PANEL`] written.
    unsafe fn multiply(block: Block, count: usize);
}

/// In registers of sums.
impl<S: Sums> Multiplier for S {
    const ROWS: usize = <S as Sums>::ROWS;
    const STEP: usize = <S as Sums>::STEP;
    const ROUND: usize = 1;
    const AHEAD: usize = AHEAD;
    const WHOLE: bool = <S as Sums>::WHOLE;

    #[inline(always)]
    unsafe fn multiply(block: Block, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { block.run::<S>(count) }
    }
}

/// A cache line.
const AHEAD: usize = PANEL / 2;

/// Rows of words times one panel.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// The first row, and how far apart rows stand.
    pub(super) rows: *const u32,
    pub(super) row_stride: usize,
    /// Steps of a row, and rows of the panel.
    pub(super) depth: usize,
    pub(super) panel: *const u32,
    /// What is likely needed next, `AHEAD` words a step; any address.
    pub(super) ahead: *const u32,
    /// Where the products go, `[rows, PANEL]`, and how far apart their rows stand.
    pub(super) out: *mut u32,
    pub(super) out_stride: usize,
}

impl Block {
    /// Computes `count` rows of products, at most `S::ROWS`: each a sum in the order of the depth.
    ///
    /// # Safety
    /// The instructions of `S` exist; `count` rows of `depth` steps can be read, `depth` rows of [`PANEL`] of the panel,
    /// and `count` rows of [`PANEL`] written.
    #[inline(always)]
    pub(super) unsafe fn run<S: Sums>(self, count: usize) {
        macro_rules! by_count {
            ($($n:literal)*) => {
                match count {
                    // A count that the registers have no room for never comes, and is not compiled.
                    $($n if $n <= S::ROWS => self.rows::<S, { $n }>(),)*
                    _ => unreachable!("a block of {count} rows"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { by_count!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    // Compiled for an instruction set it must be inlined. Where there is one only it must not: browsers' compilers keep a
    // loop in registers if little is around it.
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn rows<S: Sums, const R: usize>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            for first in (0..PANEL).step_by(2 * S::WIDTH) {
                self.columns::<S, R>(first);
            }
        }
    }

    /// Two registers of columns.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // counted loops are unrolled whole, and the sums stay in registers
    unsafe fn columns<S: Sums, const R: usize>(self, first: usize) {
        // SAFETY: the caller's promise; `first` leaves room for two registers.
        unsafe {
            let mut sums = [[S::zero(); 2]; R];
            // Four pointers that step, and three rows addressed from each: more would not stay in registers. No index is
            // computed in the loop, since that would be checked for overflow.
            let offsets = [0, self.row_stride, 2 * self.row_stride];
            let mut bases = [self.rows; 4];
            for (index, base) in bases.iter_mut().enumerate() {
                *base = self.rows.add((3 * index).min(R - 1) * self.row_stride);
            }
            // The last step of each leads to where nothing is read or written, maybe beyond what there is.
            let mut panel = self.panel.add(first);
            let mut ahead = self.ahead;
            for _ in 0..self.depth {
                prefetch(ahead);
                ahead = ahead.wrapping_add(AHEAD);
                let columns = [S::load(panel), S::load(panel.add(S::WIDTH))];
                panel = panel.wrapping_add(PANEL);
                for r in 0..R {
                    let x = S::share(bases[r / 3].add(offsets[r % 3]));
                    sums[r][0] = sums[r][0].add(x, columns[0]);
                    sums[r][1] = sums[r][1].add(x, columns[1]);
                }
                for base in &mut bases {
                    *base = base.wrapping_add(S::STEP);
                }
            }
            let mut out = self.out.add(first);
            for r in 0..R {
                sums[r][0].store(out);
                sums[r][1].store(out.add(S::WIDTH));
                out = out.wrapping_add(self.out_stride);
            }
        }
    }
}

/// Asks for the cache line of an address, which may be any.
#[inline(always)]
fn prefetch(address: *const u32) {
    // SAFETY: every x86-64 has the instruction, and it never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
