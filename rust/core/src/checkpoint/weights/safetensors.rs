//! The header of a safetensors file.

use std::path::Path;

use safetensors::{SafeTensorError, SafeTensors};

use super::Stored;
use crate::error::{Error, Result};

/// The tensors of the file. The header is validated as a whole: sizes, order, no overlap, no gap.
pub(super) fn tensors(path: &Path, content: &[u8]) -> Result<Vec<Stored>> {
    if content.starts_with(b"version https://git-lfs") {
        let problem = "is a pointer of git-lfs and no weights yet; fetch them with: git lfs pull";
        return Err(Error::model(path, "", problem));
    }
    let (header, metadata) = SafeTensors::read_metadata(content).map_err(|e| {
        let problem = match e {
            // The crate counts a tensor's bits.
            SafeTensorError::ValidationOverflow if cfg!(target_pointer_width = "32") => {
                "a tensor of 512 MiB or more, which is more than can be opened where addresses have 32 bits, as in browsers; take a smaller model, or one that was saved as float16 or bfloat16".to_owned()
            }
            e => format!("not a whole safetensors file ({} bytes): {e}; fetch it again", content.len()),
        };
        Error::model(path, "", problem)
    })?;
    let data = header + size_of::<u64>();
    let stored = |(name, info): (String, &safetensors::tensor::TensorInfo)| Stored {
        name,
        dtype: info.dtype,
        shape: info.shape.clone(),
        bytes: data + info.data_offsets.0..data + info.data_offsets.1,
    };
    Ok(metadata.tensors().into_iter().map(stored).collect())
}
