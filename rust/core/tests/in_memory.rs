//! A checkpoint in memory is the checkpoint of the folder: the same bits, the same errors.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use chandelier::{ColBert, Error, Files, OpenOptions};
use common::{checkpoint, copy_of, files, golden, texts};

fn held(folder: &Path) -> Files {
    let mut held = Files::default();
    for path in files(folder) {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
        held.insert(name, std::fs::read(&path).unwrap()).unwrap();
    }
    held
}

fn from_memory(folder: &Path) -> Result<ColBert, Error> {
    ColBert::open_files(held(folder), OpenOptions::default())
}

#[test]
fn every_golden_is_the_same_model() {
    let mut count = 0;
    for case in std::fs::read_dir(golden("")).unwrap() {
        let case = case.unwrap().file_name().into_string().unwrap();
        if !checkpoint(&case).is_dir() {
            continue;
        }
        let (here, there) = (from_memory(&checkpoint(&case)), ColBert::open(checkpoint(&case)));
        match (here, there) {
            (Ok(here), Ok(there)) => {
                assert_eq!(here.fingerprint().unwrap(), there.fingerprint().unwrap(), "{case}");
                let (queries, documents) = (texts(&case, "queries"), texts(&case, "documents"));
                let rows = |model: &ColBert| {
                    (model.encode_queries(&queries).unwrap(), model.encode_documents(&documents).unwrap())
                };
                assert!(rows(&here) == rows(&there), "{case}");
                count += 1;
            }
            (Err(here), Err(there)) => assert_eq!(here.to_string(), told_without(&there, &checkpoint(&case))),
            (here, there) => panic!("{case}: {:?}, but the folder {:?}", here.err(), there.err()),
        }
    }
    assert!(count >= 25, "{count} goldens");
}

/// The message without the path of the folder, which a checkpoint in memory has none of.
fn told_without(error: &Error, folder: &Path) -> String {
    error.to_string().replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_file_that_is_missing_is_told_of_as_in_a_folder() {
    for case in ["a_bert_pylate", "d_bert_stanford", "f_bert_pytorch_bin", "g_bert_sharded", "n_st6_mve"] {
        let mut refused = 0;
        for path in files(&checkpoint(case)) {
            let copy = copy_of(case);
            std::fs::remove_file(copy.path().join(path.strip_prefix(checkpoint(case)).unwrap())).unwrap();
            if let Err(there) = ColBert::open(copy.path()) {
                let here = from_memory(copy.path()).err().unwrap();
                assert_eq!(here.to_string(), told_without(&there, copy.path()));
                refused += 1;
            } else {
                from_memory(copy.path()).unwrap();
            }
        }
        assert!(refused > 1, "{case}: {refused} files are needed");
    }
}

#[test]
fn a_bare_transformer_opens_from_memory() {
    let copy = copy_of("a_bert_pylate");
    for file in ["modules.json", "config_sentence_transformers.json", "1_Dense/config.json"] {
        std::fs::remove_file(copy.path().join(file)).unwrap();
    }
    let here = ColBert::from_bert_files(held(copy.path()), OpenOptions::default()).unwrap();
    let there = ColBert::from_bert(copy.path(), OpenOptions::default()).unwrap();
    assert_eq!(here.fingerprint().unwrap(), there.fingerprint().unwrap());
    assert!(here.encode_queries(&["bare"]).unwrap() == there.encode_queries(&["bare"]).unwrap());
}

#[test]
fn paths_lead_to_files_of_the_folder() {
    let mut held = Files::default();
    for path in ["", ".", "/", "/config.json", "../config.json", "1_Dense/../../config.json"] {
        let error = held.insert(path, Vec::new()).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{path:?}: {error}");
        assert!(error.to_string().contains(&format!("{path:?}")), "{error}");
    }
    let error = ColBert::open_files(held, OpenOptions::default()).err().unwrap();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
}

#[test]
fn a_path_has_many_spellings() {
    let folder = checkpoint("a_bert_pylate");
    let mut held = Files::default();
    for path in files(&folder) {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().replace('/', "//./");
        held.insert(&format!("./{name}"), std::fs::read(&path).unwrap()).unwrap();
    }
    ColBert::open_files(held, OpenOptions::default()).unwrap();
}
