//! The one door to files that are read: plain files only, so that a pipe or a device cannot hang a load.

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a plain file; `hint` says what it is for, should it be missing.
pub(crate) fn open(path: &Path, hint: &str) -> Result<File> {
    let hint = if stands(path) && !path.exists() {
        "a link that leads nowhere; fetch the checkpoint again"
    } else {
        hint
    };
    let reading = |e| Error::reading(path, e, hint);
    if !path.metadata().map_err(reading)?.is_file() {
        return Err(Error::model(path, "", "is a folder, a pipe or a device, wanted a file"));
    }
    File::open(path).map_err(reading)
}

/// The content of a plain file.
pub(crate) fn read(path: &Path, hint: &str) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut open(path, hint)?, &mut content)
        .map_err(|e| Error::reading(path, e, hint))?;
    Ok(content)
}

/// Whether something stands there, be it a link that leads nowhere: such a file is damaged, not absent.
pub(crate) fn stands(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
