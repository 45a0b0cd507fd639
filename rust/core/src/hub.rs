//! A hub name in, a local snapshot folder out (feature `hub`).
//!
//! Fetched is what this crate reads and nothing else: settings first and weights last, so that a download that was cut
//! off lacks weights, which shows, and never settings, for which defaults would step in. The cache is the hub's own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::error::{Error, Result};

const MODULES: &str = "modules.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model.bin";
const SETTINGS: [&str; 8] = [
    MODULES,
    "config.json",
    "config_sentence_transformers.json",
    "artifact.metadata",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// How the hub is asked.
#[derive(Clone, Default)]
pub struct HubOptions {
    /// A branch, tag or commit; `None` means `main`.
    pub revision: Option<String>,
    /// Where snapshots are kept; `None` means the hub's own place (`HF_HOME`).
    pub cache_dir: Option<PathBuf>,
    /// The access token; `None` means `HF_TOKEN`, or the one that was logged in with; `""` means none at all.
    pub token: Option<String>,
    /// The hub's address; `None` means `HF_ENDPOINT`, or the hub's own.
    pub endpoint: Option<String>,
    /// Ask nobody and take what the cache has, as with `HF_HUB_OFFLINE`.
    pub local_files_only: bool,
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("revision", &self.revision)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("endpoint", &self.endpoint)
            .field("local_files_only", &self.local_files_only)
            .finish()
    }
}

/// Where a hub model stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder to open.
    pub folder: PathBuf,
    /// The commit.
    pub revision: String,
    /// Why it is what the cache had, although the hub should have been asked; it may not be the newest.
    pub unreachable: Option<String>,
}

/// What went wrong between a hub name and a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubErrorKind {
    /// No such repository or revision, or a private one that the token does not open.
    Missing,
    /// Nobody may be asked, and the cache does not have it whole.
    NotCached,
    /// Access is refused: a gated repository, or a token that is not valid.
    Refused,
    /// The hub was not reached, broke off or is not in order.
    Unreachable,
    /// A file that arrived with other bytes than the hub says; it was deleted.
    Damaged,
    /// The repository holds no model that this crate reads.
    NoModel,
    /// The file system refused.
    Storage,
}

/// The snapshot of a repository, fetched as far as the cache lacks it.
///
/// ```no_run
/// use chandelier::hub::{HubOptions, snapshot};
///
/// let found = snapshot("lightonai/colbertv2.0", &HubOptions::default())?;
/// println!("{} at {}", found.folder.display(), found.revision);
/// # Ok::<(), chandelier::Error>(())
/// ```
///
/// # Errors
/// [`Error::Hub`] with what went wrong as its kind; [`Error::Argument`] for what is no hub name or revision.
pub fn snapshot(name: &str, options: &HubOptions) -> Result<Snapshot> {
    if !is_name(name) {
        return Err(Error::argument(
            "name",
            format!("{name:?}"),
            "a hub name: \"name\" or \"organisation/name\"",
        ));
    }
    let revision = options.revision.as_deref().unwrap_or("main");
    if revision.is_empty() || revision.contains("..") || !revision.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::argument("revision", format!("{revision:?}"), "a branch, a tag or a commit"));
    }
    let cache = options.cache_dir.clone().map_or_else(Cache::from_env, Cache::new);
    let request = Request { name, revision, cache, options };
    if options.local_files_only {
        return request.cached("local_files_only is set");
    }
    let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
    if ["1", "on", "yes", "true"].contains(&offline.as_str()) {
        return request.cached("HF_HUB_OFFLINE is set");
    }
    match request.online() {
        Err(Error::Hub { kind: HubErrorKind::Unreachable, problem, .. }) => match request.cached(&problem) {
            Ok(found) => Ok(Snapshot { unreachable: Some(problem), ..found }),
            Err(_) => Err(request.error(HubErrorKind::Unreachable, problem)),
        },
        other => other,
    }
}

/// The rules of the hub for names.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        let ends = part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
        !part.is_empty() && !ends && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let parts: Vec<&str> = name.split('/').collect();
    let refused = name.contains("--") || name.contains("..") || name.ends_with(".git");
    parts.len() <= 2 && parts.iter().all(|part| plain(part) && part.len() <= 96) && !refused
}

/// What the hub says about a file.
struct Facts {
    size: Option<u64>,
    sha256: Option<String>,
    blob: Option<String>,
}

type Files = BTreeMap<String, Facts>;

struct Request<'a> {
    name: &'a str,
    revision: &'a str,
    cache: Cache,
    options: &'a HubOptions,
}

impl Request<'_> {
    fn error(&self, kind: HubErrorKind, problem: impl Into<String>) -> Error {
        Error::Hub {
            repository: self.name.to_owned(),
            revision: self.revision.to_owned(),
            kind,
            problem: problem.into(),
        }
    }

    fn repository(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.to_owned(), RepoType::Model, revision.to_owned())
    }

    fn folder(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repository(commit)).pointer_path(commit)
    }

    fn online(&self) -> Result<Snapshot> {
        let mut builder =
            ApiBuilder::from_env().with_progress(false).with_cache_dir(self.cache.path().clone());
        builder = builder.with_user_agent("chandelier", env!("CARGO_PKG_VERSION"));
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let token = self.options.token.clone().or_else(|| std::env::var("HF_TOKEN").ok());
        if let Some(token) = token {
            builder = builder.with_token(Some(token).filter(|token| !token.is_empty()));
        }
        let api = builder.build().map_err(|e| self.failed(&e, "the client could not be made"))?;

        let (commit, files) = self.ask(&api)?;
        let folder = self.folder(&commit);
        let mut layout = Layout::default();
        if files.contains_key(MODULES) {
            self.fetch(&api, &commit, &files, MODULES)?;
            layout.read_modules(&folder);
        }
        self.refuse(layout.lacking(&|name| files.contains_key(name)))?;
        for name in layout.settings(files.keys()) {
            self.fetch(&api, &commit, &files, &name)?;
        }
        layout.read_shards(&folder);
        self.refuse(layout.lacking(&|name| files.contains_key(name)))?;
        for name in layout.weights(&|name| files.contains_key(name)) {
            self.fetch(&api, &commit, &files, &name)?;
        }
        if self.revision != commit {
            let noted = self.cache.repo(self.repository(self.revision)).create_ref(&commit);
            noted.map_err(|e| self.error(HubErrorKind::Storage, format!("the cache: {e}")))?;
        }
        Ok(Snapshot { folder, revision: commit, unreachable: None })
    }

    fn refuse(&self, lacking: Vec<String>) -> Result<()> {
        if lacking.is_empty() {
            return Ok(());
        }
        let problem = format!("holds no model that can be read: it lacks {}", lacking.join(", "));
        Err(self.error(HubErrorKind::NoModel, problem))
    }

    /// The commit that the revision is, and its files.
    fn ask(&self, api: &Api) -> Result<(String, Files)> {
        let request = api.repo(self.repository(self.revision)).info_request().query("blobs", "true");
        let answer = request.config().http_status_as_error(false).build().call();
        let mut answer = answer.map_err(|e| {
            self.error(
                HubErrorKind::Unreachable,
                format!("the hub could not be reached ({e}); check the network"),
            )
        })?;
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (status, code, said) =
            (answer.status().as_u16(), header("x-error-code"), header("x-error-message"));
        let (kind, problem) = match (status, code.as_str()) {
            (200, _) => (HubErrorKind::Missing, String::new()),
            (_, "RevisionNotFound") => {
                (HubErrorKind::Missing, "the repository has no such branch, tag or commit".to_owned())
            }
            (_, "GatedRepo") => (HubErrorKind::Refused, GATED.to_owned()),
            (401, _) if said.starts_with("Invalid credentials") => {
                (HubErrorKind::Refused, "the token is not valid (401); correct or unset HF_TOKEN".to_owned())
            }
            (401 | 404, _) => {
                let problem = "no such repository, or a private one that the token does not open; check the name, or \
                               set HF_TOKEN";
                (HubErrorKind::Missing, problem.to_owned())
            }
            (403, _) => (
                HubErrorKind::Refused,
                format!("access is refused (403 {said}); check what the token may read"),
            ),
            _ => (HubErrorKind::Unreachable, format!("the hub answered {status} ({said}); try again later")),
        };
        if status != 200 {
            return Err(self.error(kind, problem));
        }
        let info: Value = answer.body_mut().read_json().map_err(|e| {
            self.error(
                HubErrorKind::Unreachable,
                format!("the hub's answer cannot be read ({e}); try again later"),
            )
        })?;
        let commit =
            info["sha"].as_str().filter(|sha| sha.bytes().all(|b| b.is_ascii_hexdigit()) && !sha.is_empty());
        let commit = commit.ok_or_else(|| {
            self.error(HubErrorKind::Unreachable, "the answer names no commit; is HF_ENDPOINT a hub?")
        })?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let files = info["siblings"].as_array().into_iter().flatten().filter_map(|file| {
            let facts = Facts {
                size: file["size"].as_u64(),
                sha256: text(&file["lfs"]["sha256"]),
                blob: text(&file["blobId"]),
            };
            Some((text(&file["rfilename"])?, facts))
        });
        Ok((commit.to_owned(), files.collect()))
    }

    /// Fetches a file that the cache lacks, and compares it with the hub's hash: wrong weights look like right ones.
    fn fetch(&self, api: &Api, commit: &str, files: &Files, name: &str) -> Result<()> {
        let path = self.folder(commit).join(name);
        if path.exists() {
            return Ok(());
        }
        api.repo(self.repository(commit)).download(name).map_err(|e| self.failed(&e, name))?;
        let storage = |e| self.error(HubErrorKind::Storage, format!("{}: {e}", path.display()));
        let Some(facts) = files.get(name) else { return Ok(()) };
        let size = path.metadata().map_err(storage)?.len();
        let whole = facts.size.is_none_or(|wanted| wanted == size);
        let same = match (&facts.sha256, &facts.blob) {
            _ if !whole => false,
            (Some(wanted), _) => hashed(Sha256::new(), &path).map_err(storage)? == *wanted,
            (None, Some(wanted)) => {
                let git = Sha1::new().chain_update(format!("blob {size}\0"));
                hashed(git, &path).map_err(storage)? == *wanted
            }
            (None, None) => true,
        };
        if same {
            return Ok(());
        }
        if let Ok(blob) = path.canonicalize() {
            std::fs::remove_file(blob).map_err(storage)?;
        }
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(storage)?;
        }
        let problem = format!(
            "{name} arrived with other bytes than the hub's hash; it was deleted, so try again; if it stays so, a proxy \
             or a mirror alters what it passes on"
        );
        Err(self.error(HubErrorKind::Damaged, problem))
    }

    fn failed(&self, error: &ApiError, what: &str) -> Error {
        let (kind, problem) = match error {
            ApiError::RequestError(error) => match **error {
                ureq::Error::StatusCode(401 | 403) => (HubErrorKind::Refused, GATED.to_owned()),
                ureq::Error::StatusCode(404) => (HubErrorKind::Missing, "the file is gone".to_owned()),
                _ => {
                    (HubErrorKind::Unreachable, format!("the connection failed ({error}); check the network"))
                }
            },
            ApiError::TooManyRetries(error) => return self.failed(error, what),
            ApiError::IoError(error) if error.raw_os_error().is_some() => {
                (HubErrorKind::Storage, error.to_string())
            }
            ApiError::LockAcquisition(path) => {
                (HubErrorKind::Storage, format!("{} stays locked", path.display()))
            }
            other => (HubErrorKind::Unreachable, other.to_string()),
        };
        self.error(kind, format!("{what}: {problem}"))
    }

    /// The snapshot in the cache, without asking anybody.
    fn cached(&self, why: &str) -> Result<Snapshot> {
        let missing = |what: String| {
            self.error(HubErrorKind::NotCached, format!("{why}, and {what}; open it once online"))
        };
        let notes = self.cache.path().join(self.repository("main").folder_name()).join("refs");
        let noted = std::fs::read_to_string(notes.join(self.revision)).map(|commit| commit.trim().to_owned());
        let commit = noted.unwrap_or_else(|_| self.revision.to_owned());
        let folder = self.folder(&commit);
        if !folder.is_dir() {
            return Err(missing("the cache does not hold it".to_owned()));
        }
        let here = |name: &str| folder.join(name).exists();
        let mut layout = Layout::default();
        layout.read_modules(&folder);
        layout.read_shards(&folder);
        let mut lacking = layout.lacking(&here);
        let settings = "config_sentence_transformers.json";
        if !layout.dense.is_empty() && !here(settings) {
            lacking.push(settings.to_owned()); // every ColBERT is saved with them, and defaults would step in
        }
        let is_stanford = || {
            let config = read_json(&folder.join("config.json"));
            config.is_some_and(|config| config["architectures"] == serde_json::json!(["HF_ColBERT"]))
        };
        if !here(MODULES) && !here("artifact.metadata") && is_stanford() {
            lacking.push("artifact.metadata".to_owned());
        }
        if !lacking.is_empty() {
            return Err(missing(format!("the snapshot in the cache lacks {}", lacking.join(", "))));
        }
        Ok(Snapshot { folder, revision: commit, unreachable: None })
    }
}

const GATED: &str = "access to this repository must be granted and was not; ask for it on its page, then give the \
                     token of that account (HF_TOKEN)";

fn hashed<D: Digest>(mut digest: D, path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => digest.update(&piece[..read]),
        }
    }
}

/// Which of a repository's files a model consists of.
struct Layout {
    folders: Vec<String>,
    dense: Vec<String>,
    /// Modules that would do something else without their own configuration.
    configured: Vec<String>,
    shards: BTreeMap<String, Vec<String>>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            folders: vec![String::new()],
            dense: Vec::new(),
            configured: Vec::new(),
            shards: BTreeMap::new(),
        }
    }
}

impl Layout {
    /// Takes the folders from the list of modules; what is wrong with one is said when it is opened.
    fn read_modules(&mut self, folder: &Path) {
        let Some(Value::Array(modules)) = read_json(&folder.join(MODULES)) else { return };
        let named = modules.iter().filter_map(|module| {
            let kind = module["type"].as_str()?.rsplit('.').next()?;
            Some((inside(module["path"].as_str()?)?, kind))
        });
        let named: Vec<(String, &str)> = named.collect();
        let of = |kinds: &[&str]| {
            let chosen = named.iter().filter(|(_, kind)| kinds.contains(kind));
            chosen.map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        if !named.is_empty() {
            self.dense = of(&["Dense"]);
            self.configured = of(&["Dense", "MultiVectorMask", "HierarchicalTokenPooling"]);
            self.folders = named.iter().map(|(path, _)| path.clone()).collect();
        }
    }

    /// Takes the names of the shards from their indices.
    fn read_shards(&mut self, folder: &Path) {
        for place in &self.folders {
            if let Some(index) = read_json(&folder.join(join(place, INDEX))) {
                let names = index["weight_map"].as_object().into_iter().flat_map(|map| map.values());
                let names = names.filter_map(|name| inside(name.as_str()?)).map(|name| join(place, &name));
                let mut names: Vec<String> = names.collect();
                names.sort();
                names.dedup();
                self.shards.insert(place.clone(), names);
            }
        }
    }

    /// Everything that is no weight.
    fn settings<'a>(&self, files: impl Iterator<Item = &'a String>) -> Vec<String> {
        let wanted = |file: &&String| {
            let (place, name) = file.rsplit_once('/').unwrap_or(("", file));
            let listed = self.folders.iter().any(|folder| folder == place);
            let transformer = name.starts_with("sentence_") && name.ends_with("_config.json");
            (place.is_empty() || listed)
                && (SETTINGS.contains(&name) || transformer || (listed && name == INDEX))
        };
        files.filter(wanted).cloned().collect()
    }

    /// The weights of every module: one file, else its shards, else what torch pickled.
    fn weights(&self, has: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        for place in &self.folders {
            if has(&join(place, WEIGHTS)) {
                names.push(join(place, WEIGHTS));
            } else if has(&join(place, INDEX)) {
                names.extend(self.shards.get(place).into_iter().flatten().cloned());
            } else if has(&join(place, PICKLED)) {
                names.push(join(place, PICKLED));
            }
        }
        names
    }

    /// What no checkpoint can do without and this one has not.
    fn lacking(&self, has: &dyn Fn(&str) -> bool) -> Vec<String> {
        let transformer = self.folders.first().map_or("", String::as_str);
        let mut wanted = vec![join(transformer, "config.json"), join(transformer, "tokenizer.json")];
        wanted.extend(self.configured.iter().map(|place| join(place, "config.json")));
        for place in std::iter::once(transformer).chain(self.dense.iter().map(String::as_str)) {
            if ![WEIGHTS, INDEX, PICKLED].iter().any(|name| has(&join(place, name))) {
                wanted.push(join(place, WEIGHTS));
            }
            if !has(&join(place, WEIGHTS)) {
                wanted.extend(self.shards.get(place).into_iter().flatten().cloned());
            }
        }
        wanted.retain(|name| !has(name));
        wanted.dedup();
        wanted
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A path inside the repository in its plain spelling, `""` for its root; `None` for any other.
fn inside(path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\\') || path.split('/').any(|part| part == "..") {
        return None;
    }
    Some(path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/"))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
