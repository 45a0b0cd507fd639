//! The one door to files that are read, on disk or in memory. On disk plain files only, so that a pipe or a device cannot
//! hang a load.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The files of a checkpoint's folder in memory, where there is no file system: in a browser, say.
///
/// ```
/// use chandelier::{ColBert, Error, Files, OpenOptions};
///
/// let mut files = Files::default();
/// files.insert("modules.json", b"[".to_vec())?;
/// let error = ColBert::open_files(files, OpenOptions::default()).err().expect("a file that is cut off");
/// assert!(matches!(&error, Error::Model { file, .. } if file.ends_with("modules.json")), "{error}");
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct Files(BTreeMap<PathBuf, Arc<Vec<u8>>>);

impl Files {
    /// Adds a file by its path in the folder, as `1_Dense/config.json`; one that is there already is replaced.
    ///
    /// # Errors
    /// [`Error::Argument`] for a path that leads out of the folder, or to no file in it.
    pub fn insert(&mut self, path: &str, content: Vec<u8>) -> Result<()> {
        let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        let known = plain(Path::new(path));
        if known.as_os_str().is_empty() || !Path::new(path).components().all(inside) {
            let wanted = "the path of a file inside the checkpoint, such as \"1_Dense/config.json\"";
            return Err(Error::argument("files", format!("{path:?}"), wanted));
        }
        self.0.insert(known, Arc::new(content));
        Ok(())
    }
}

/// Without what changes nothing.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// A file or folder of a checkpoint, whether it exists or not.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    path: PathBuf,
    /// None on disk. Whoever opens a model holds the files for as long as that takes, and no longer.
    files: Option<Weak<Files>>,
}

impl Place {
    pub(crate) fn on_disk(path: &Path) -> Self {
        Self { path: path.to_owned(), files: None }
    }

    /// The folder of these files.
    pub(crate) fn in_memory(files: &Arc<Files>) -> Self {
        Self { path: PathBuf::new(), files: Some(Arc::downgrade(files)) }
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        Self { path: self.path.join(name), files: self.files.clone() }
    }

    /// Another file of the same folder.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self { path: self.path.with_file_name(name), files: self.files.clone() }
    }

    /// What messages call it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses what is no folder, or one whose files may not be seen.
    pub(crate) fn check_folder(&self) -> Result<()> {
        let path = &self.path;
        match &self.files {
            Some(files) => {
                let found = files
                    .upgrade()
                    .is_some_and(|files| files.0.keys().any(|file| file.starts_with(plain(path))));
                if !found {
                    return Err(Error::argument(
                        "files",
                        "none",
                        "the files of a checkpoint's folder, by their paths in it",
                    ));
                }
            }
            None if !path.is_dir() => {
                let found = if path.exists() { "is a file" } else { "no such folder" };
                let problem = format!("{found}; wanted the folder of a checkpoint");
                return Err(Error::Missing { path: path.to_owned(), problem });
            }
            None => {
                if let Err(error) = path.join("modules.json").symlink_metadata()
                    && error.kind() == std::io::ErrorKind::PermissionDenied
                {
                    return Err(Error::reading(path, error, ""));
                }
            }
        }
        Ok(())
    }

    /// Whether something stands there, be it a link that leads nowhere: such a file is damaged, not absent.
    pub(crate) fn stands(&self) -> bool {
        match &self.files {
            None => stands(&self.path),
            Some(_) => self.held().is_some(),
        }
    }

    /// The content of a file; `hint` says what it is for, should it be missing.
    pub(crate) fn read(&self, hint: &str) -> Result<Content> {
        match &self.files {
            None => Ok(Content::Read(read(&self.path, hint)?)),
            Some(_) => self.held().map(Content::Held).ok_or_else(|| self.missing(hint)),
        }
    }

    /// The same without reading what is not looked at, and what tells it from another content.
    pub(crate) fn map(&self, hint: &str) -> Result<(Content, Stamp)> {
        if self.files.is_some() {
            let content = self.read(hint)?;
            let stamp = Stamp { length: content.len() as u64, modified: None };
            return Ok((content, stamp));
        }
        let reading = |e| Error::reading(&self.path, e, hint);
        let file = open(&self.path, hint)?;
        let metadata = file.metadata().map_err(reading)?;
        let stamp = Stamp { length: metadata.len(), modified: metadata.modified().ok() };
        // SAFETY: the map is read-only and lives only while the checkpoint is opened; that nobody truncates the
        // file in that moment is the one assumption that every memory-mapped reader makes.
        let map = unsafe { Mmap::map(&file) }.map_err(reading)?;
        Ok((Content::Mapped(map), stamp))
    }

    fn held(&self) -> Option<Arc<Vec<u8>>> {
        self.files.as_ref()?.upgrade()?.0.get(&plain(&self.path)).cloned()
    }

    fn missing(&self, hint: &str) -> Error {
        Error::reading(&self.path, std::io::ErrorKind::NotFound.into(), hint)
    }
}

/// The bytes of a file.
pub(crate) enum Content {
    Read(Vec<u8>),
    Mapped(Mmap),
    Held(Arc<Vec<u8>>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}

/// What a file is known again by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

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
