//! Products of small matrices in the widest registers that the processor has.
//!
//! [`Simd`] says which instructions; `lanes` is one register of each kind, `tile` the loop that is written once for all
//! of them, and `panels` the door: rows packed once and multiplied with many others. `halves` widens float16.

mod halves;
mod lanes;
mod panels;
mod tile;

pub(crate) use halves::widen;
pub(crate) use panels::Panels;

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Vector instructions that this processor has: to hold one is the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(pub(crate) Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
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
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                paths.push(Path::Avx512);
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                paths.push(Path::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        paths.push(Path::Neon);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        paths.push(Path::Simd128);
        paths.push(Path::Portable);
        paths.into_iter().map(Self).collect()
    }

    /// `"avx512"`, `"avx2"`, `"neon"`, `"simd128"` or `"portable"`.
    pub fn name(self) -> &'static str {
        match self.0 {
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

/// How much of the processor a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Threads, the calling one among them; they live as long as the call.
    pub threads: usize,
    /// The instructions.
    pub simd: Simd,
}

/// Names the instructions to use instead of the fastest.
const VARIABLE: &str = "CHANDELIER_SIMD";

impl Cpu {
    /// All cores that the process may use and the fastest instructions, or those that the environment variable
    /// `CHANDELIER_SIMD` names.
    ///
    /// # Errors
    /// [`Error::Argument`] if it names what this processor does not have.
    pub fn detect() -> Result<Self> {
        let available = Simd::available();
        let simd = match std::env::var_os(VARIABLE) {
            None => available[0],
            Some(name) => available.iter().copied().find(|simd| name == simd.name()).ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|simd| simd.name()).collect();
                Error::argument(
                    VARIABLE,
                    format!("{name:?}"),
                    format!("one of {names:?}, or no such variable"),
                )
            })?,
        };
        Ok(Self { threads: default_threads(), simd })
    }
}

/// The number of threads to use when the caller does not say: what the process might use (affinity and cgroup) when it
/// first asked. To ask takes 40 microseconds, as long as MaxSim over a few documents.
pub fn default_threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
