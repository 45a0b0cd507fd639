//! Which instructions multiply in a precision.

use super::Simd;
use super::words::Precision;
#[cfg(target_arch = "x86_64")]
use super::{Path, amx};

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// Float32, bfloat16 or whole numbers by what every processor of a kind has.
    Common(Simd, Precision),
    /// Bfloat16 in tiles.
    #[cfg(target_arch = "x86_64")]
    BfloatTiles,
    /// Whole numbers in tiles.
    #[cfg(target_arch = "x86_64")]
    WholeTiles,
    /// Bfloat16 by AVX-512's own instruction.
    #[cfg(target_arch = "x86_64")]
    Bfloats512,
    /// Whole numbers by AVX-512's own instruction.
    #[cfg(target_arch = "x86_64")]
    Whole512,
    /// Whole numbers by AVX2.
    #[cfg(target_arch = "x86_64")]
    Whole256,
}

impl Product {
    pub(super) fn choose(simd: Simd, precision: Precision) -> Self {
        #[cfg(target_arch = "x86_64")]
        match (simd.0, precision) {
            (Path::Amx, Precision::BFloat16) if amx::is_permitted() => return Self::BfloatTiles,
            (Path::Amx, Precision::Int8) if amx::is_permitted() => return Self::WholeTiles,
            // Float32, and what the system does not permit.
            (Path::Amx, _) => return Self::choose(simd.without_tiles(), precision),
            (Path::Avx512, Precision::Int8) if is_x86_feature_detected!("avx512vnni") => {
                return Self::Whole512;
            }
            (Path::Avx512, Precision::BFloat16) if has_fast_bfloats() => return Self::Bfloats512,
            (Path::Avx512 | Path::Avx2, Precision::Int8) if is_x86_feature_detected!("avx2") => {
                return Self::Whole256;
            }
            _ => {}
        }
        Self::Common(simd, precision)
    }

    /// How many rows, and words of a row, are multiplied at once: room for rows ends at a multiple of it, filled up with
    /// zeros.
    pub(super) fn round(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::BfloatTiles | Self::WholeTiles => amx::TILE,
            _ => 1,
        }
    }

    /// The instructions of all that stands around the products.
    pub(super) fn simd(self) -> Simd {
        // The others are chosen only where there are these.
        match self {
            Self::Common(simd, _) => simd,
            #[cfg(target_arch = "x86_64")]
            Self::BfloatTiles | Self::WholeTiles | Self::Bfloats512 | Self::Whole512 => Simd(Path::Avx512),
            #[cfg(target_arch = "x86_64")]
            Self::Whole256 => Simd(Path::Avx2),
        }
    }

    /// Whether the processor has an instruction for just this, rather than for steps that make it up.
    fn is_of_its_own(self) -> bool {
        match self {
            Self::Common(..) => false,
            #[cfg(target_arch = "x86_64")]
            Self::Whole256 => false,
            #[cfg(target_arch = "x86_64")]
            Self::BfloatTiles | Self::WholeTiles | Self::Bfloats512 | Self::Whole512 => true,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Common(simd, _) => simd.name(),
            #[cfg(target_arch = "x86_64")]
            Self::BfloatTiles | Self::WholeTiles => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Bfloats512 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Whole512 => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Whole256 => "avx2",
        }
    }
}

/// Intel's processors have the instruction, but it does half of what their float32 ones do.
#[cfg(target_arch = "x86_64")]
fn has_fast_bfloats() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    is_x86_feature_detected!("avx512bf16") && vendor.ebx.to_le_bytes() == *b"Auth"
}

/// The precision in which a model encodes fastest, of those that find what float32 finds.
///
/// int8 and bfloat16 both do, by the table of `make bench-quality` in README.md, and each is faster by half or more where the
/// processor has an instruction for it. Made up of several it gains less than a tenth, or loses: not worth the rounding.
pub(crate) fn fastest(simd: Simd) -> Precision {
    let reduced = [Precision::Int8, Precision::BFloat16].into_iter();
    let mut fast = reduced.filter(|precision| Product::choose(simd, *precision).is_of_its_own());
    fast.next().unwrap_or(Precision::Float32)
}

/// The instructions that multiply in a precision.
pub(crate) fn instructions(simd: Simd, precision: Precision) -> &'static str {
    Product::choose(simd, precision).name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_is_fast_by_an_instruction_of_its_own() {
        for simd in Simd::available() {
            let names = [Precision::Int8, Precision::BFloat16].map(|precision| instructions(simd, precision));
            let wanted = match names {
                ["amx" | "avx512vnni", _] => Precision::Int8,
                [_, "avx512bf16"] => Precision::BFloat16,
                _ => Precision::Float32,
            };
            assert_eq!(fastest(simd), wanted, "{simd:?}: {names:?}");
        }
    }

    #[test]
    fn without_such_instructions_nothing_is_rounded() {
        for simd in Simd::available().into_iter().filter(|simd| !["amx", "avx512"].contains(&simd.name())) {
            assert_eq!(fastest(simd), Precision::Float32, "{simd:?}");
        }
    }
}
