//! Hub names against a hub on the loopback, the one that the Python tests use (`tests/boundary/hub_server.py`).

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use chandelier::hub::{HubErrorKind, HubOptions, snapshot};
use chandelier::{ColBert, Error, OpenOptions};
use common::checkpoint;
use tempfile::TempDir;

const CASE: &str = "a_bert_pylate";

/// Every layout: Stanford's without a list of modules, a pickle, shards, modules with settings only, a subfolder.
const OTHERS: [&str; 5] =
    ["d_bert_stanford", "f_bert_pytorch_bin", "g_bert_sharded", "o_st6_mve_min", "u_st_modules"];

/// A hub and an empty cache.
struct World {
    hub: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
    cache: TempDir,
}

impl World {
    fn new() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/boundary/hub_server.py");
        let mut hub = Command::new("python3")
            .arg(script)
            .arg(checkpoint(CASE))
            .args(OTHERS.map(checkpoint))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ask, answers) = (hub.stdin.take().unwrap(), hub.stdout.take().unwrap());
        let mut world = Self {
            hub,
            ask,
            answers: BufReader::new(answers),
            address: String::new(),
            cache: TempDir::new().unwrap(),
        };
        world.address = world.line();
        world
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The files that were fetched since it was last asked.
    fn fetched(&mut self) -> BTreeSet<String> {
        self.ask.write_all(b"\n").unwrap();
        serde_json::from_str(&self.line()).unwrap()
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            cache_dir: Some(self.cache.path().to_owned()),
            endpoint: Some(self.address.clone()),
            token: Some(String::new()), // whatever the environment holds is not for this hub
            ..HubOptions::default()
        }
    }

    fn kind(&self, name: &str, options: &HubOptions) -> HubErrorKind {
        match snapshot(name, options) {
            Err(Error::Hub { repository, kind, problem, .. }) => {
                assert_eq!(repository, name);
                assert!(!problem.contains('\n'), "{problem}");
                kind
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.hub.kill().unwrap();
        self.hub.wait().unwrap();
    }
}

#[test]
fn a_name_opens_as_its_folder_does() {
    let mut world = World::new();
    let texts = ["Paris is the capital of France.", ""];
    let ours = ColBert::from_hub("house/plain", &world.options(), OpenOptions::default()).unwrap();
    let theirs = ColBert::open(checkpoint(CASE)).unwrap();
    let rows = theirs.encode_documents(&texts).unwrap();
    assert_eq!(ours.encode_documents(&texts).unwrap().data(), rows.data());
    assert_eq!(ours.fingerprint().unwrap(), theirs.fingerprint().unwrap());

    let root = checkpoint(CASE);
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let wanted: BTreeSet<String> = common::files(&root).iter().map(name).collect();
    assert!(wanted.len() > 5);
    assert_eq!(world.fetched(), wanted);

    let options = world.options();
    let found = snapshot("house/plain", &options).unwrap();
    assert!(found.folder.ends_with(&found.revision) && found.unreachable.is_none());
    assert_eq!(world.fetched(), BTreeSet::new(), "the second time the cache has it");

    let offline = HubOptions { local_files_only: true, ..options.clone() };
    assert_eq!(snapshot("house/plain", &offline).unwrap(), found);
    let commit = HubOptions { revision: Some(found.revision.clone()), ..offline.clone() };
    assert_eq!(snapshot("house/plain", &commit).unwrap(), found);

    let away = HubOptions { endpoint: Some("http://127.0.0.1:9".to_owned()), ..options };
    let kept = snapshot("house/plain", &away).unwrap();
    assert_eq!((&kept.folder, &kept.revision), (&found.folder, &found.revision));
    assert!(kept.unreachable.unwrap().contains("could not be reached"));
    assert_eq!(world.kind("house/other", &away), HubErrorKind::Unreachable);

    std::fs::remove_file(found.folder.join("1_Dense/model.safetensors")).unwrap();
    assert_eq!(world.kind("house/plain", &offline), HubErrorKind::NotCached);
}

#[test]
fn failures_are_told_apart() {
    let world = World::new();
    let options = world.options();
    let cases = [
        ("house/nowhere", HubErrorKind::Missing),
        ("house/private", HubErrorKind::Missing),
        ("house/gated", HubErrorKind::Refused),
        ("house/altered", HubErrorKind::Damaged),
        ("house/spelt", HubErrorKind::Damaged),
        ("house/broken", HubErrorKind::Unreachable),
        ("house/empty", HubErrorKind::NoModel),
    ];
    for (name, kind) in cases {
        assert_eq!(world.kind(name, &options), kind, "{name}");
    }
    // What arrived damaged is not taken for good the next time.
    assert_eq!(world.kind("house/altered", &options), HubErrorKind::Damaged);
    let token = |token: &str| HubOptions { token: Some(token.to_owned()), ..world.options() };
    assert!(snapshot("house/private", &token("good")).is_ok());
    assert_eq!(world.kind("house/private", &token("bad")), HubErrorKind::Refused);
    let branch = HubOptions { revision: Some("v9".to_owned()), ..options.clone() };
    assert_eq!(world.kind("house/plain", &branch), HubErrorKind::Missing);
    let offline = HubOptions { local_files_only: true, ..options };
    assert_eq!(world.kind("house/plain", &offline), HubErrorKind::NotCached);
    assert!(!format!("{:?}", token("good")).contains("good"));
}

#[test]
fn what_is_no_name_is_refused() {
    for name in
        ["", "a/b/c", "/a", "a/", "two words", "no--such", "no..such", "model.git", "./a", "-a", "a:b"]
    {
        assert!(matches!(snapshot(name, &HubOptions::default()), Err(Error::Argument { .. })), "{name:?}");
    }
    for revision in ["", "a b", "../x"] {
        let options = HubOptions { revision: Some(revision.to_owned()), ..HubOptions::default() };
        assert!(matches!(snapshot("a", &options), Err(Error::Argument { .. })), "{revision:?}");
    }
}

#[test]
fn every_layout_is_fetched_whole_and_opens_again_from_the_cache() {
    let mut world = World::new();
    for case in OTHERS {
        let name = format!("goldens/{case}");
        let model = ColBert::from_hub(&name, &world.options(), OpenOptions::default()).unwrap();
        let local = ColBert::open(checkpoint(case)).unwrap();
        let texts = ["from the hub as from the folder", ""];
        assert_eq!(
            model.encode_documents(&texts).unwrap(),
            local.encode_documents(&texts).unwrap(),
            "{case}"
        );
        assert_eq!(model.fingerprint().unwrap(), local.fingerprint().unwrap(), "{case}");
        assert!(!world.fetched().is_empty());
        let options = HubOptions { local_files_only: true, ..world.options() };
        let cached = ColBert::from_hub(&name, &options, OpenOptions::default()).unwrap();
        assert_eq!(cached.encode_queries(&texts).unwrap(), local.encode_queries(&texts).unwrap(), "{case}");
        assert!(world.fetched().is_empty(), "{case}");
    }
}
