//! Where the arithmetic runs, and in what precision. An unknown name is an error, never the CPU.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::kernels::{self, Precision};

/// A device by its name: `"cpu"`, `"cuda"`, `"cuda:1"` or `"metal"`.
///
/// ```
/// use chandelier::device::Device;
/// assert_eq!("cpu".parse::<Device>()?, Device::Cpu);
/// assert!("cdua".parse::<Device>().is_err());
/// # Ok::<(), chandelier::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor, with the widest instructions it has.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number; needs the feature `cuda`.
    Cuda(usize),
    /// The GPU of an Apple machine; needs the feature `metal`.
    Metal,
}

impl std::str::FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => name.strip_prefix("cuda:").and_then(number).map(Self::Cuda).ok_or_else(|| {
                let problem =
                    "unknown, wanted \"cpu\", \"cuda\", \"cuda:1\" (and so on) or \"metal\"".to_owned();
                Error::Device { name: name.to_owned(), problem }
            }),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl Device {
    fn open(self) -> Result<candle_core::Device> {
        let opened = match self {
            Self::Cpu => return Ok(candle_core::Device::Cpu),
            Self::Cuda(number) if cfg!(feature = "cuda") => candle_core::Device::new_cuda(number),
            Self::Metal if cfg!(feature = "metal") => candle_core::Device::new_metal(0),
            Self::Cuda(_) | Self::Metal => {
                let problem =
                    "not compiled into this build; use device=\"cpu\", or build the crate with the feature";
                return Err(Error::Device { name: self.to_string(), problem: problem.to_owned() });
            }
        };
        opened.map_err(|e| Error::Device { name: self.to_string(), problem: format!("cannot be used: {e}") })
    }
}

/// What a model computes in. The rows that come out are float32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// Exact to the reference.
    #[default]
    Float32,
    /// About three digits. On a GPU twice the speed and half the memory; on the CPU the layers' weights are kept and
    /// multiplied so, and all else is float32.
    BFloat16,
    /// Four digits and a narrow range; GPUs only.
    Float16,
    /// Weights of the layers in a quarter of the memory, multiplied as whole numbers, and all else in float32; CPU only.
    Int8,
    /// The fastest that costs at most 0.005 of nDCG@10 by the table of README.md: on the CPU int8, else bfloat16, where the
    /// processor has an instruction for it, else float32; on a GPU float32, since no such table was measured on one.
    Auto,
    /// To check the others by: many times slower, and computed by candle's own operations on its own threads.
    Float64,
}

impl std::str::FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Float32, Self::BFloat16, Self::Float16, Self::Int8, Self::Auto, Self::Float64];
        let found = all.into_iter().find(|dtype| dtype.to_string() == name);
        found.ok_or_else(|| {
            let wanted = "\"float32\", \"bfloat16\", \"int8\" (on the CPU), \"float16\" (on a GPU), \"auto\" (the fastest of \
                          them that costs little), or \"float64\" (to check by)";
            Error::argument("dtype", format!("{name:?}"), wanted)
        })
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::BFloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Int8 => "int8",
            Self::Auto => "auto",
            Self::Float64 => "float64",
        })
    }
}

impl Dtype {
    /// What [`Dtype::Auto`] is on a device, and of this processor's instructions; any other is itself.
    pub(crate) fn resolve(self, device: Device) -> Result<Self> {
        match (self, device) {
            (Self::Auto, Device::Cpu) => Ok(match kernels::fastest(kernels::selected()?) {
                Precision::Float32 => Self::Float32,
                Precision::BFloat16 => Self::BFloat16,
                Precision::Int8 => Self::Int8,
            }),
            (Self::Auto, _) => Ok(Self::Float32),
            _ => Ok(self),
        }
    }
}

/// Where the weights go, and as what.
#[derive(Debug, Clone)]
pub(crate) struct Compute {
    device: candle_core::Device,
    dtype: DType,
    /// What linear layers of the CPU compute in, where all else is float32.
    pub(crate) precision: Precision,
    /// Threads that load weights.
    pub(crate) threads: usize,
}

impl Default for Compute {
    fn default() -> Self {
        Self {
            device: candle_core::Device::Cpu,
            dtype: DType::F32,
            precision: Precision::Float32,
            threads: 1,
        }
    }
}

impl Compute {
    pub(crate) fn open(device: Device, dtype: Dtype, threads: usize) -> Result<Self> {
        let on_cpu = device == Device::Cpu;
        let wanted = match dtype {
            Dtype::Float16 if on_cpu => Some("\"float32\", \"bfloat16\" or \"int8\" on the CPU"),
            Dtype::Int8 if !on_cpu => Some("\"float32\", \"bfloat16\" or \"float16\" on a GPU"),
            _ => None,
        };
        if let Some(wanted) = wanted {
            return Err(Error::argument("dtype", format!("\"{dtype}\""), wanted));
        }
        if dtype == Dtype::Float64 && device == Device::Metal {
            return Err(Error::argument(
                "dtype",
                "\"float64\"",
                "\"float32\", \"bfloat16\" or \"float16\" on Metal",
            ));
        }
        let (dtype, precision) = match dtype {
            Dtype::BFloat16 if on_cpu => (DType::F32, Precision::BFloat16),
            Dtype::Int8 => (DType::F32, Precision::Int8),
            Dtype::Float32 => (DType::F32, Precision::Float32),
            Dtype::BFloat16 => (DType::BF16, Precision::Float32),
            Dtype::Float16 => (DType::F16, Precision::Float32),
            Dtype::Float64 => (DType::F64, Precision::Float32),
            Dtype::Auto => return Self::open(device, dtype.resolve(device)?, threads),
        };
        Ok(Self { device: device.open()?, dtype, precision, threads })
    }

    /// Whether float32 values are computed with as they are, on the CPU.
    pub(crate) fn is_plain(&self) -> bool {
        self.device.is_cpu() && self.dtype == DType::F32
    }

    /// The instructions of the kernels that multiply; None where candle's own operations do.
    pub(crate) fn kernels(&self) -> Result<Option<&'static str>> {
        let simd = kernels::selected()?;
        Ok(self.is_plain().then(|| kernels::instructions(simd, self.precision)))
    }

    /// A tensor that was read, where and as what it is computed with.
    pub(crate) fn place(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        tensor.to_device(&self.device)?.to_dtype(self.dtype)
    }
}

/// The instructions that encoders compute with on this processor, or that `CHANDELIER_SIMD` named when the first asked.
///
/// # Errors
/// [`Error::Argument`] if it names what this processor does not have.
pub fn kernels() -> Result<String> {
    let simd = kernels::selected()?;
    let instructions = |precision| kernels::instructions(simd, precision);
    Ok(format!(
        "float32: {}, bfloat16: {}, int8: {}",
        instructions(Precision::Float32),
        instructions(Precision::BFloat16),
        instructions(Precision::Int8)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_becomes_a_name_of_its_own_and_is_exact_where_nothing_was_measured() -> Result<()> {
        for device in [Device::Cuda(0), Device::Metal] {
            assert_eq!(Dtype::Auto.resolve(device)?, Dtype::Float32);
            assert_eq!(Dtype::BFloat16.resolve(device)?, Dtype::BFloat16);
        }
        let here = Dtype::Auto.resolve(Device::Cpu)?;
        assert!([Dtype::Float32, Dtype::BFloat16, Dtype::Int8].contains(&here), "{here}");
        let automatic = Compute::open(Device::Cpu, Dtype::Auto, 1)?;
        assert_eq!(automatic.precision, Compute::open(Device::Cpu, here, 1)?.precision);
        Ok(())
    }
}
