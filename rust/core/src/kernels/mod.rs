//! Products of small matrices in the widest registers that the processor has.
//!
//! [`Simd`] says which instructions, and `lanes` is one register of each kind; loops are written once for all of them.
//! For MaxSim `tile` is the loop, and `panels` the door: rows packed once and multiplied with many others.
//!
//! For encoders `block` is the loop, over `sums` of products in every precision. `layer` is a linear layer: `words` are
//! what it multiplies, `product` says by which instructions, and `curves` are what it applies to the result; `gate`
//! multiplies by one. `amx` does the work of `block` where the processor has tiles. `attention` is one head of it, and
//! `norm` normalises rows.
//!
//! `halves` widens float16.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod block;
mod curves;
mod gate;
mod halves;
mod lanes;
mod layer;
mod norm;
mod panels;
mod product;
mod rows;
mod sums;
mod tile;
mod words;

pub(crate) use attention::Attention;
pub use curves::Activation;
pub(crate) use gate::gate;
pub(crate) use halves::widen;
pub(crate) use layer::Layer;
pub(crate) use norm::layer_norm;
pub(crate) use panels::Panels;
pub(crate) use product::{fastest, instructions};
pub(crate) use rows::{Rows, RowsMut};
pub use words::Precision;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::threads::default_threads;

/// Vector instructions that this processor has: to hold one is the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(pub(crate) Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// AVX-512, and tiles for layers in reduced precision if the system permits.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    Portable,
}

/// The fastest first.
const PATHS: &[Path] = &[
    #[cfg(target_arch = "x86_64")]
    Path::Amx,
    #[cfg(target_arch = "x86_64")]
    Path::Avx512,
    #[cfg(target_arch = "x86_64")]
    Path::Avx2,
    #[cfg(target_arch = "aarch64")]
    Path::Neon,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Path::Simd128,
    Path::Portable,
];

impl Path {
    fn exists(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => is_x86_feature_detected!("avx512f") && amx::exists(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => true,
            Self::Portable => true,
        }
    }
}

impl Simd {
    /// All that there are, the fastest first; the last is `portable`, which every processor has.
    ///
    /// All but `portable` and `simd128` multiply and add in one rounding, and all in the same order, so that those give
    /// the same bits. Loops elsewhere that are compiled for several processors only add, compare or divide, number by
    /// number or in lanes of a fixed width: they choose by themselves, and give the same bits on all.
    ///
    /// ```
    /// use chandelier::kernels::Simd;
    /// assert!(Simd::available().iter().any(|simd| simd.name() == "portable"));
    /// ```
    pub fn available() -> Vec<Self> {
        PATHS.iter().copied().filter(|path| path.exists()).map(Self).collect()
    }

    /// The fastest, or what the environment variable `CHANDELIER_SIMD` names.
    pub(crate) fn choose() -> Result<Self> {
        let mut available = Simd::available();
        match std::env::var_os(VARIABLE) {
            None => Ok(available[0]),
            Some(name) => {
                available.retain(|simd| simd.is_permitted());
                available.iter().copied().find(|simd| name == simd.name()).ok_or_else(|| {
                    let names: Vec<_> = available.iter().map(|simd| simd.name()).collect();
                    Error::argument(
                        VARIABLE,
                        format!("{name:?}"),
                        format!("one of {names:?}, or no such variable"),
                    )
                })
            }
        }
    }

    /// Those that multiply float32, which tiles do not.
    pub(crate) fn without_tiles(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Path::Amx {
            return Self(Path::Avx512);
        }
        self
    }

    /// Whether the system lets this process use them: to ask changes what it keeps for a signal, so only who names them or
    /// multiplies by them asks.
    fn is_permitted(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Path::Amx {
            return amx::is_permitted();
        }
        true
    }

    /// `"amx"` (AVX-512, with tiles for layers in reduced precision), `"avx512"`, `"avx2"`, `"neon"`, `"simd128"` or
    /// `"portable"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Path::Simd128 => "simd128",
            Path::Portable => "portable",
        }
    }
}

/// The instructions that encoders compute with, chosen once for the process: as [`Simd::choose`] chooses.
///
/// # Errors
/// As [`Simd::choose`].
pub(crate) fn selected() -> Result<Simd> {
    /// One more than their place among all paths. No `OnceLock`: a child that is forked while another thread fills
    /// it would wait for that thread forever.
    static SELECTED: AtomicUsize = AtomicUsize::new(0);
    if let Some(path) = SELECTED.load(Ordering::Relaxed).checked_sub(1).and_then(|place| PATHS.get(place)) {
        return Ok(Simd(*path));
    }
    let simd = Simd::choose()?;
    let place = PATHS.iter().position(|path| *path == simd.0).unwrap_or_default();
    SELECTED.store(place + 1, Ordering::Relaxed);
    Ok(simd)
}

/// How much of the processor a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Threads, the calling one among them, as far as other calls of the process leave cores free; they live as long as the call.
    pub threads: usize,
    /// The instructions.
    pub simd: Simd,
}

/// Names the instructions to use instead of the fastest.
const VARIABLE: &str = "CHANDELIER_SIMD";

impl Cpu {
    /// As many threads as [`default_threads`] says and the fastest instructions of float32, or those that the environment
    /// variable `CHANDELIER_SIMD` names; for `amx` those of AVX-512, since tiles do not multiply float32.
    ///
    /// # Errors
    /// [`Error::Argument`] if it names what this processor does not have, and as [`default_threads`].
    pub fn detect() -> Result<Self> {
        Ok(Self { threads: default_threads()?, simd: Simd::choose()?.without_tiles() })
    }
}

/// For tests: numbers in -1..1 of no regular pattern.
#[cfg(test)]
pub(crate) fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
