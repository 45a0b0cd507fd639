//! Where the arithmetic runs. An unknown name is an error, never the CPU.

use crate::error::{Error, Result};

/// A device by its name: `"cpu"`.
///
/// ```
/// use chandelier::device::Device;
/// assert_eq!("cpu".parse::<Device>()?, Device::Cpu);
/// assert!("cdua".parse::<Device>().is_err());
/// # Ok::<(), chandelier::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor, with the widest instructions it has.
    Cpu,
}

impl std::str::FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known_elsewhere = name == "cuda" || name.starts_with("cuda:") || name == "metal";
        let problem = match name {
            "cpu" => return Ok(Self::Cpu),
            _ if known_elsewhere => {
                "not compiled into this build, which computes on the CPU only; use device=\"cpu\""
            }
            _ => "unknown; this build knows \"cpu\"",
        };
        Err(Error::Device { name: name.to_owned(), problem: problem.to_owned() })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

/// The number of threads to use when the caller does not say: what the process may use (affinity and cgroup).
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The instructions that the float32 kernels use on this processor.
pub fn kernels() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
            return "f32: avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "f32: avx2+fma";
        }
    }
    "f32: portable"
}
