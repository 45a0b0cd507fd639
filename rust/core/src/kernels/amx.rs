//! Tiles of Intel's AMX: one instruction multiplies 16 rows of 16 words with 16 columns.
//!
//! Their intrinsics are not in stable Rust, so that the loops are assembly.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::atomic::{AtomicU8, Ordering};

use super::block::{Block, Multiplier, PANEL};

/// Rows of a tile, and words of a row of it.
pub(super) const TILE: usize = 16;

/// Whether the processor has tiles, and products of bfloat16 and of whole numbers in them.
pub(super) fn exists() -> bool {
    const BFLOAT16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    let all = BFLOAT16 | TILES | INT8;
    cfg!(target_os = "linux") && __cpuid_count(7, 0).edx & all == all
}

/// Whether this process may use them. Linux wants to be asked, since tiles are 8 KiB more to keep for a thread; it
/// refuses if it is too old, if a sandbox does, or if a thread's stack for signals is too small for them.
pub(super) fn is_permitted() -> bool {
    const UNKNOWN: u8 = u8::MAX;
    // No `OnceLock`: a child that is forked while another thread fills it would wait for that thread forever.
    static PERMITTED: AtomicU8 = AtomicU8::new(UNKNOWN);
    match PERMITTED.load(Ordering::Relaxed) {
        UNKNOWN => {
            let is_permitted = exists() && ask();
            PERMITTED.store(is_permitted.into(), Ordering::Relaxed);
            is_permitted
        }
        known => known == 1,
    }
}

#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

/// That the tiles of this thread are set up; dropping it gives them back, so that nobody saves them any longer.
pub(super) struct Tiles(());

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// All eight, as large as they can be.
    ///
    /// # Safety
    /// Tiles are permitted.
    pub(super) unsafe fn configure() -> Self {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(4 * TILE as u16);
        configuration.rows[..8].fill(TILE as u8);
        // SAFETY: the caller's promise; the instruction reads the 64 bytes of the configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags));
        }
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: who holds this was permitted.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

/// Pairs of bfloat16.
pub(super) struct Bfloats;

/// Fours of whole numbers, unsigned in rows and signed in columns.
pub(super) struct Whole;

macro_rules! multiplier {
    ($name:ident, whole: $whole:literal, $product:literal) => {
        /// To be called while [`Tiles`] are held.
        impl Multiplier for $name {
            const ROWS: usize = 2 * TILE;
            const STEP: usize = 1;
            const ROUND: usize = TILE;
            // Four cache lines for the 16 steps of a tile.
            const AHEAD: usize = 4;
            const WHOLE: bool = $whole;

            #[inline(always)]
            unsafe fn multiply(block: Block, count: usize) {
                let (x, x_bytes, out_bytes) = (block.rows, 4 * block.row_stride, 4 * block.out_stride);
                // SAFETY: the caller's promise: 16 or 32 rows of a multiple of 16 words can be read, as many of the panel,
                // and 16 or 32 rows of `PANEL` products be written. A prefetch never faults.
                unsafe {
                    if count > TILE {
                        asm!(
                            "tilezero tmm0",
                            "tilezero tmm1",
                            "tilezero tmm2",
                            "tilezero tmm3",
                            "2:",
                            "tileloadd tmm4, [{x} + {x_bytes}]",
                            "tileloadd tmm6, [{w} + {w_bytes}]",
                            "tileloadd tmm7, [{w} + {w_bytes} + 64]",
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + 64]",
                            "prefetcht1 [{ahead} + 128]",
                            "prefetcht1 [{ahead} + 192]",
                            concat!($product, " tmm0, tmm4, tmm6"),
                            "tileloadd tmm5, [{y} + {x_bytes}]",
                            concat!($product, " tmm1, tmm4, tmm7"),
                            concat!($product, " tmm2, tmm5, tmm6"),
                            concat!($product, " tmm3, tmm5, tmm7"),
                            "add {x}, 64",
                            "add {y}, 64",
                            "add {w}, 2048",
                            "add {ahead}, 256",
                            "dec {left}",
                            "jnz 2b",
                            "tilestored [{out} + {out_bytes}], tmm0",
                            "tilestored [{out} + {out_bytes} + 64], tmm1",
                            "tilestored [{below} + {out_bytes}], tmm2",
                            "tilestored [{below} + {out_bytes} + 64], tmm3",
                            x = inout(reg) x => _,
                            y = inout(reg) x.add(TILE * block.row_stride) => _,
                            w = inout(reg) block.panel => _,
                            ahead = inout(reg) block.ahead => _,
                            left = inout(reg) block.depth / TILE => _,
                            out = in(reg) block.out,
                            below = in(reg) block.out.add(TILE * block.out_stride),
                            x_bytes = in(reg) x_bytes,
                            w_bytes = in(reg) 4 * PANEL,
                            out_bytes = in(reg) out_bytes,
                            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                            options(nostack),
                        );
                    } else {
                        asm!(
                            "tilezero tmm0",
                            "tilezero tmm1",
                            "2:",
                            "tileloadd tmm4, [{x} + {x_bytes}]",
                            "tileloadd tmm6, [{w} + {w_bytes}]",
                            "tileloadd tmm7, [{w} + {w_bytes} + 64]",
                            concat!($product, " tmm0, tmm4, tmm6"),
                            concat!($product, " tmm1, tmm4, tmm7"),
                            "add {x}, 64",
                            "add {w}, 2048",
                            "dec {left}",
                            "jnz 2b",
                            "tilestored [{out} + {out_bytes}], tmm0",
                            "tilestored [{out} + {out_bytes} + 64], tmm1",
                            x = inout(reg) x => _,
                            w = inout(reg) block.panel => _,
                            left = inout(reg) block.depth / TILE => _,
                            out = in(reg) block.out,
                            x_bytes = in(reg) x_bytes,
                            w_bytes = in(reg) 4 * PANEL,
                            out_bytes = in(reg) out_bytes,
                            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                            options(nostack),
                        );
                    }
                }
            }
        }
    };
}

multiplier!(Bfloats, whole: false, "tdpbf16ps");
multiplier!(Whole, whole: true, "tdpbusd");
