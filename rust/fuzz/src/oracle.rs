//! What must hold of any checkpoint whatever: it opens and encodes, or it is refused with an error that blames the
//! checkpoint.
//!
//! An input is one file of one golden: a line that names it, such as `a_bert_pylate/config.json`, and behind the line
//! its content. `#header`, `#pickle` and `#directory` behind the name stand for a part of the file, around which the rest
//! of the golden's file is put.

use std::io::{Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chandelier::{ColBert, Error, OpenOptions, Prompt, Role};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The goldens: every format, every kind of tokenizer and most architectures.
const CASES: [&str; 14] = [
    "a_bert_pylate",
    "d_bert_stanford",
    "f_bert_pytorch_bin",
    "g_bert_sharded",
    "h_modernbert_v5",
    "i_modernbert_old",
    "l_xlmr_pylate",
    "m_distilbert_pylate",
    "n_st6_mve",
    "o_st6_mve_min",
    "p_lfm2_pylate",
    "x1_eurobert",
    "x3_xmod",
    "x4_jina_xlmr_rotary",
];

const TEXTS: [&str; 2] =
    [" What is a [MASK], naïve 東京?", "Bread needs 250 g of flour; \u{1f35e} isn't hard."];

/// Copies of the goldens in which one file at a time is replaced.
pub(crate) struct Oracle {
    // Removed at the end.
    _folder: TempDir,
    slots: Vec<Slot>,
}

/// A file, or a part of one, that an input replaces.
pub(crate) struct Slot {
    pub(crate) name: String,
    /// The fuzz target that it belongs to.
    pub(crate) target: &'static str,
    case: PathBuf,
    path: PathBuf,
    part: Part,
    whole: Vec<u8>,
}

enum Part {
    Whole,
    /// The JSON at the start of a safetensors file.
    Header,
    /// The `data.pkl` of an archive.
    Pickle(Vec<(String, Vec<u8>)>),
    /// The list of members at the end of an archive, which begins at this byte.
    Directory(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The input names no file.
    NoInput,
    Refused,
    Encoded,
}

impl Oracle {
    pub(crate) fn new(goldens: &Path) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut slots = Vec::new();
        for name in CASES {
            let case = folder.path().join(name);
            copy(&goldens.join(name).join("checkpoint"), &case, &case, name, &mut slots)?;
        }
        Ok(Self { _folder: folder, slots })
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Tries an input out. The error says what does not hold.
    pub(crate) fn run(&self, input: &[u8]) -> Result<Outcome, String> {
        let Some((slot, content)) = self.slot_of(input) else { return Ok(Outcome::NoInput) };
        let failed = |e: std::io::Error| format!("the oracle itself: {}: {e}", slot.path.display());
        std::fs::write(&slot.path, slot.file(content).map_err(failed)?).map_err(failed)?;
        let outcome = catch_unwind(AssertUnwindSafe(|| open_and_encode(&slot.case)));
        std::fs::write(&slot.path, &slot.whole).map_err(failed)?;
        match outcome {
            Ok(Ok(())) => Ok(Outcome::Encoded),
            Ok(Err(error @ Error::Tensor(_))) => Err(format!("{}: blamed on this crate: {error}", slot.name)),
            Ok(Err(_)) => Ok(Outcome::Refused),
            Err(_) => Err(format!("{}: panics", slot.name)),
        }
    }

    /// The slot that an input names, and the content for it.
    pub(crate) fn slot_of<'a>(&self, input: &'a [u8]) -> Option<(&Slot, &'a [u8])> {
        let line = input.iter().position(|&byte| byte == b'\n')?;
        let slot = self.slots.iter().find(|slot| slot.name.as_bytes() == &input[..line])?;
        Some((slot, &input[line + 1..]))
    }
}

/// As a user would, every parser's result put to use.
fn open_and_encode(folder: &Path) -> chandelier::Result<()> {
    let model = ColBert::open_with(folder, OpenOptions { threads: Some(1), ..OpenOptions::default() })?;
    drop((model.architecture(), model.warnings()));
    let queries = model.encode_queries(&TEXTS[..1])?;
    let documents = model.encode_documents(&TEXTS[1..])?;
    assert!(queries.data().iter().chain(documents.data()).all(|x| x.is_finite()), "rows that are not finite");
    model.tokenize(&TEXTS, Role::Document, Prompt::Default, &mut |_| Ok(()))?;
    Ok(())
}

/// Copies a folder and lists what can be replaced in it.
fn copy(from: &Path, to: &Path, case: &Path, name: &str, slots: &mut Vec<Slot>) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    let mut entries = std::fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let file = entry.file_name().to_string_lossy().into_owned();
        let (path, name) = (to.join(&file), format!("{name}/{file}"));
        if entry.path().is_dir() {
            copy(&entry.path(), &path, case, &name, slots)?;
            continue;
        }
        let whole = std::fs::read(entry.path())?;
        std::fs::write(&path, &whole)?;
        let (target, parts) = match file.as_str() {
            "tokenizer.json" | "tokenizer_config.json" | "special_tokens_map.json" => {
                ("tokenizer", vec![("", Part::Whole)])
            }
            "artifact.metadata" => ("config", vec![("", Part::Whole)]),
            _ if file.ends_with(".json") => ("config", vec![("", Part::Whole)]),
            _ if file.ends_with(".safetensors") => {
                ("safetensors", vec![("", Part::Whole), ("#header", Part::Header)])
            }
            "pytorch_model.bin" => {
                let directory = whole.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap_or(0);
                let members = members(&whole)?;
                let parts = vec![
                    ("", Part::Whole),
                    ("#pickle", Part::Pickle(members)),
                    ("#directory", Part::Directory(directory)),
                ];
                ("pickle", parts)
            }
            _ => continue,
        };
        for (suffix, part) in parts {
            let (case, path, whole) = (case.to_owned(), path.clone(), whole.clone());
            slots.push(Slot { name: format!("{name}{suffix}"), target, case, path, part, whole });
        }
    }
    Ok(())
}

/// Everything in an archive.
fn members(archive: &[u8]) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut archive = ZipArchive::new(Cursor::new(archive))?;
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index)?;
        let mut content = Vec::new();
        member.read_to_end(&mut content)?;
        members.push((String::from_utf8_lossy(member.name_raw()).into_owned(), content));
    }
    Ok(members)
}

fn header_size(file: &[u8]) -> usize {
    let size = file.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
    usize::try_from(size).unwrap_or(0).min(file.len().saturating_sub(8))
}

impl Slot {
    /// The golden's own content.
    pub(crate) fn golden(&self) -> &[u8] {
        match &self.part {
            Part::Whole => &self.whole,
            Part::Header => &self.whole[8..8 + header_size(&self.whole)],
            Part::Pickle(members) => {
                let pickle = members.iter().find(|(name, _)| name.ends_with("data.pkl"));
                pickle.map_or(&[], |(_, content)| content)
            }
            Part::Directory(start) => &self.whole[*start..],
        }
    }

    /// The file with this content for the part.
    fn file(&self, content: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(match &self.part {
            Part::Whole => content.to_vec(),
            Part::Header => {
                let data = &self.whole[8 + header_size(&self.whole)..];
                [&(content.len() as u64).to_le_bytes(), content, data].concat()
            }
            Part::Pickle(members) => {
                let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
                let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
                for (name, golden) in members {
                    archive.start_file(name.as_str(), options)?;
                    archive.write_all(if name.ends_with("data.pkl") { content } else { golden })?;
                }
                archive.finish()?.into_inner()
            }
            Part::Directory(start) => [&self.whole[..*start], content].concat(),
        })
    }
}
