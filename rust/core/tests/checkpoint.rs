//! Damaged checkpoints end in an error that names a file, never in a panic; fingerprints tell models apart.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use chandelier::{ColBert, Error, Knobs, OpenOptions};
use common::{Random, checkpoint, copy_of, files, panics, texts};
use serde_json::{Value, json};

const CASE: &str = "a_bert_pylate";

/// Opens and encodes whatever stands in `folder`. The outcome: whether it opened and whether it encoded.
fn try_out(folder: &Path, damage: &str) -> (bool, bool) {
    let run = || {
        let model = match ColBert::open(folder) {
            Ok(model) => model,
            Err(error) => {
                assert!(!matches!(error, Error::Tensor(_)), "{damage}: blamed on this crate: {error}");
                return (false, false);
            }
        };
        let encode = || -> Result<Vec<f32>, Error> {
            let queries = model.encode_queries(&["what is a [MASK]?", ""])?;
            let documents = model.encode_documents(&["a few words, and punctuation.", ""])?;
            Ok([queries.data(), documents.data()].concat())
        };
        match encode() {
            Ok(rows) => assert!(rows.iter().all(|x| x.is_finite()), "{damage}: rows that are not finite"),
            Err(error) => {
                assert!(!matches!(error, Error::Tensor(_)), "{damage}: blamed on this crate: {error}");
                return (true, false);
            }
        }
        (true, true)
    };
    panics(run).unwrap_or_else(|panic| panic!("{damage}: panics: {panic}"))
}

/// Damages one file of a copy after the other, tries each out, restores it, and says at the end what went wrong.
struct Fuzz {
    folder: tempfile::TempDir,
    random: Random,
    opened: usize,
    refused: usize,
    faults: Vec<String>,
}

impl Fuzz {
    fn new(case: &str, seed: u64) -> Self {
        Self { folder: copy_of(case), random: Random(seed), opened: 0, refused: 0, faults: Vec::new() }
    }

    fn try_out(&mut self, path: &Path, content: &[u8], damage: &str) {
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, content).unwrap();
        let name = path.strip_prefix(self.folder.path()).unwrap().display();
        match panics(|| try_out(self.folder.path(), &format!("{name}: {damage}"))) {
            Ok((true, _)) => self.opened += 1,
            Ok((false, _)) => self.refused += 1,
            Err(fault) => self.faults.push(fault),
        }
        std::fs::write(path, whole).unwrap();
    }

    /// Both outcomes must have come up `enough` times, or the damage was all too coarse or all too fine.
    fn done(self, enough: usize) {
        assert!(self.faults.is_empty(), "{} faults: {:#?}", self.faults.len(), self.faults);
        let (opened, refused) = (self.opened, self.refused);
        assert!(opened >= enough && refused >= enough, "{opened} opened and {refused} were refused");
    }
}

#[test]
fn bytes_that_are_wrong_or_missing_never_panic() {
    let mut fuzz = Fuzz::new(CASE, 1);
    let found = files(fuzz.folder.path());
    assert_eq!(found.len(), 9);
    for path in found {
        let whole = std::fs::read(&path).unwrap();
        for _ in 0..20 {
            let length = fuzz.random.below(whole.len());
            fuzz.try_out(&path, &whole[..length], &format!("cut at {length}"));
        }
        // Of a weights file the header is what can go wrong; behind it are numbers.
        let end = if path.ends_with("model.safetensors") { whole.len().min(4000) } else { whole.len() };
        for _ in 0..40 {
            let mut damaged = whole.clone();
            let mut places = Vec::new();
            for _ in 0..=fuzz.random.below(3) {
                let (place, bit) = (fuzz.random.below(end), fuzz.random.below(8));
                damaged[place] ^= 1 << bit;
                places.push((place, bit));
            }
            fuzz.try_out(&path, &damaged, &format!("bits (byte, bit) {places:?} flipped"));
        }
    }
    fuzz.done(50);
}

/// Every place in a JSON document, as a path of keys.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, inner)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(inner, format!("{at}/{key}"), found);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| places(inner, format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at);
}

/// Valid JSON with one value exchanged reaches further in than a wrong byte does.
#[test]
fn json_with_another_value_in_it_never_panics() {
    for case in [CASE, "u_st_modules", "v_prompts"] {
        let mut fuzz = Fuzz::new(case, 2);
        let exchanged = [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(1),
            json!(2),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!(1e-300),
            json!(7),
            json!(u32::MAX),
            json!(u64::MAX),
            json!(""),
            json!("\u{0}"),
            json!("[Q] "),
            json!("../.."),
            json!([]),
            json!({}),
            json!([[]]),
            json!(["[MASK]", "", "x"]),
        ];
        for path in files(fuzz.folder.path()) {
            let Ok(document) = serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()) else {
                continue;
            };
            let mut found = Vec::new();
            places(&document, String::new(), &mut found);
            // The vocabulary is most of tokenizer.json and all alike.
            let (vocabulary, mut found): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|at| at.starts_with("/model/vocab/"));
            found.extend(vocabulary.into_iter().take(3));
            let thorough = !path.ends_with("tokenizer.json");
            for at in found {
                for value in &exchanged {
                    if !thorough && fuzz.random.below(20) > 0 {
                        continue;
                    }
                    let mut changed = document.clone();
                    *changed.pointer_mut(&at).unwrap() = value.clone();
                    let damage = format!("{at} = {value}");
                    fuzz.try_out(&path, &serde_json::to_vec(&changed).unwrap(), &damage);
                }
            }
        }
        fuzz.done(100);
    }
}

/// Header of a safetensors file, and what stands behind it.
fn parts(file: &[u8]) -> (Value, &[u8]) {
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
    (serde_json::from_slice(&file[8..8 + length]).unwrap(), &file[8 + length..])
}

fn assembled(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

#[test]
fn hostile_weights_are_refused() {
    let mut fuzz = Fuzz::new(CASE, 3);
    for path in files(fuzz.folder.path()).into_iter().filter(|path| path.ends_with("model.safetensors")) {
        let whole = std::fs::read(&path).unwrap();
        let (header, data) = parts(&whole);
        for name in header.as_object().unwrap().keys().filter(|name| *name != "__metadata__") {
            let offsets: Vec<u64> = serde_json::from_value(header[name]["data_offsets"].clone()).unwrap();
            let (start, end) = (offsets[0], offsets[1]);
            let shape = header[name]["shape"].clone();
            let overflow = json!([u64::MAX, 2]);
            for (key, value) in [
                ("data_offsets", json!([start, end + 4])),
                ("data_offsets", json!([end, start])),
                ("data_offsets", json!([start, u64::MAX])),
                ("data_offsets", json!([0, 4])),
                ("shape", overflow),
                ("shape", json!([])),
                ("shape", json!([[shape]])),
                ("dtype", json!("F64")),
                ("dtype", json!("F4")),
                ("dtype", json!("I32")),
                ("dtype", json!("BOOL")),
            ] {
                let mut changed = header.clone();
                changed[name][key] = value.clone();
                fuzz.try_out(&path, &assembled(&changed, data), &format!("{name}: {key} = {value}"));
            }
            let mut without = header.clone();
            without.as_object_mut().unwrap().remove(name);
            fuzz.try_out(&path, &assembled(&without, data), &format!("{name} is not listed"));
        }
        for length in [0u64, 1, 7, u64::from(u32::MAX), 1 << 40, u64::MAX - 7, u64::MAX] {
            let mut changed = whole.clone();
            changed[..8].copy_from_slice(&length.to_le_bytes());
            fuzz.try_out(&path, &changed, &format!("a header of {length} bytes"));
        }
        for value in [f32::NAN, f32::INFINITY, 3e38, 1e-40] {
            let numbers = value.to_le_bytes().repeat(data.len() / 4);
            let length = whole.len() - data.len();
            let damage = format!("every weight is {value}");
            fuzz.opened = 0;
            fuzz.try_out(&path, &[&whole[..length], &numbers].concat(), &damage);
            assert_eq!(fuzz.opened, 1, "{damage}: numbers are not looked at before they are used");
        }
    }
    assert!(fuzz.refused > 500, "{}", fuzz.refused);
    fuzz.done(1);
}

/// Config and weights agree in these, so that neither contradicts the other.
#[test]
fn sizes_that_nothing_can_be_made_of_are_refused_by_name() {
    type Change = fn(&mut Value, &mut Value, &mut Vec<u8>);
    let cases: [(&str, &str, Change); 2] = [
        ("d_bert_stanford", "linear.weight", |config, header, data| {
            let hidden = config["hidden_size"].as_u64().unwrap() as usize;
            resize(header, data, "linear.weight", &[0, hidden]);
        }),
        ("x3_xmod", "adapter_reduction_factor", |config, header, data| {
            config["adapter_reduction_factor"] = json!(1000);
            let names: Vec<String> = header.as_object().unwrap().keys().cloned().collect();
            for name in names.iter().filter(|name| name.contains("adapter_modules")) {
                let shape: Vec<usize> = serde_json::from_value(header[name]["shape"].clone()).unwrap();
                match shape[..] {
                    [_, inputs] if name.contains("dense1.weight") => resize(header, data, name, &[0, inputs]),
                    [outputs, _] if name.contains("dense2.weight") => {
                        resize(header, data, name, &[outputs, 0])
                    }
                    [_] if name.contains("dense1.bias") => resize(header, data, name, &[0]),
                    _ => {}
                }
            }
        }),
    ];
    for (case, wanted, change) in cases {
        let copy = copy_of(case);
        let (config_path, weights_path) =
            (copy.path().join("config.json"), copy.path().join("model.safetensors"));
        let mut config = serde_json::from_slice(&std::fs::read(&config_path).unwrap()).unwrap();
        let whole = std::fs::read(&weights_path).unwrap();
        let (mut header, data) = parts(&whole);
        let mut data = data.to_vec();
        change(&mut config, &mut header, &mut data);
        std::fs::write(&config_path, config.to_string()).unwrap();
        std::fs::write(&weights_path, assembled(&header, &data)).unwrap();
        match ColBert::open(copy.path()) {
            Err(Error::Model { key, problem, .. }) if key == wanted => {
                assert!(!problem.contains("as the configuration says"), "{problem}");
            }
            Err(other) => panic!("{case}: {other}"),
            Ok(_) => panic!("{case} opens"),
        }
    }
}

/// An encoder that never attends has no weights that would contradict the size of its heads.
#[test]
fn heads_that_no_weight_vouches_for_take_no_memory() {
    let copy = copy_of("p_lfm2_pylate");
    let (config_path, weights_path) =
        (copy.path().join("config.json"), copy.path().join("model.safetensors"));
    let mut config: Value = serde_json::from_slice(&std::fs::read(&config_path).unwrap()).unwrap();
    let layers = config["num_hidden_layers"].as_u64().unwrap();
    let hidden = config["hidden_size"].as_u64().unwrap();
    let taps = config["conv_L_cache"].as_u64().unwrap();
    config["layer_types"] = json!(vec!["conv"; layers as usize]);
    config["head_dim"] = json!(u32::MAX - 1);
    let whole = std::fs::read(&weights_path).unwrap();
    let (mut header, data) = parts(&whole);
    let mut data = data.to_vec();
    let prefix = if header.get("model.embed_tokens.weight").is_some() { "model." } else { "" };
    for index in 0..layers {
        for (part, shape) in [
            ("conv.weight", vec![hidden, 1, taps]),
            ("in_proj.weight", vec![3 * hidden, hidden]),
            ("out_proj.weight", vec![hidden, hidden]),
        ] {
            let name = format!("{prefix}layers.{index}.conv.{part}");
            if header.get(&name).is_none() {
                let (start, size) = (data.len(), 4 * shape.iter().product::<u64>() as usize);
                data.resize(start + size, 0);
                header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, start + size]});
            }
        }
    }
    std::fs::write(&config_path, config.to_string()).unwrap();
    std::fs::write(&weights_path, assembled(&header, &data)).unwrap();
    assert_eq!(try_out(copy.path(), "heads of 4 billion columns"), (true, true));
}

/// Gives a tensor another, smaller shape and takes the rest of its bytes out of the file.
fn resize(header: &mut Value, data: &mut Vec<u8>, name: &str, shape: &[usize]) {
    let place =
        |tensor: &Value| -> [usize; 2] { serde_json::from_value(tensor["data_offsets"].clone()).unwrap() };
    let [start, end] = place(&header[name]);
    let kept = start + 4 * shape.iter().product::<usize>();
    data.drain(kept..end);
    for (other, tensor) in
        header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__")
    {
        let moved = place(tensor).map(|at| if at >= end { at - (end - kept) } else { at });
        tensor["data_offsets"] = if other == name { json!([start, kept]) } else { json!(moved) };
    }
    header[name]["shape"] = json!(shape);
}

#[test]
fn what_is_missing_is_named() {
    let known = files(&checkpoint(CASE));
    let needed = ["config.json", "modules.json", "model.safetensors", "tokenizer.json"];
    for (index, path) in known.iter().enumerate() {
        let copy = copy_of(CASE);
        let gone = &files(copy.path())[index];
        std::fs::remove_file(gone).unwrap();
        match ColBert::open(copy.path()) {
            Ok(_) => {
                assert!(!needed.iter().any(|name| path.ends_with(name)), "{} is not needed", path.display())
            }
            Err(Error::Missing { path, .. }) => assert_eq!(&path, gone),
            // Nothing else names a mask token, and a guess would be none.
            Err(Error::Model { key, .. }) if path.ends_with("tokenizer_config.json") => {
                assert_eq!(key, "mask_token");
            }
            Err(other) => panic!("{}: {other}", path.display()),
        }
    }
    let nowhere = PathBuf::from("/no/such/folder");
    assert!(matches!(ColBert::open(&nowhere), Err(Error::Missing { path, .. }) if path == nowhere));
    let file = known[0].clone();
    assert!(matches!(
        ColBert::open(&file),
        Err(Error::Missing { .. } | Error::Model { .. } | Error::Io { .. })
    ));
}

fn fingerprint(folder: &Path, knobs: Knobs) -> String {
    ColBert::open_with(folder, OpenOptions { knobs, threads: Some(1), ..OpenOptions::default() })
        .unwrap()
        .fingerprint()
        .unwrap()
}

#[test]
fn fingerprints_are_of_the_values_and_not_of_the_files() {
    let plain = fingerprint(&checkpoint(CASE), Knobs::default());
    assert_eq!(plain.len(), 64);
    assert_eq!(plain, fingerprint(&checkpoint("a2_bert_as_saved_today"), Knobs::default()));
    assert_ne!(plain, fingerprint(&checkpoint("b_bert_attend"), Knobs::default()));
    let copy = copy_of(CASE);
    assert_eq!(plain, fingerprint(copy.path(), Knobs::default()), "another folder");
    let lengths = Knobs { query_length: Some(16), document_length: Some(90), ..Knobs::default() };
    assert_eq!(plain, fingerprint(copy.path(), lengths));
    for changed in [
        Knobs { query_prefix: Some("[D] ".to_owned()), ..Knobs::default() },
        Knobs { document_prefix: Some(String::new()), ..Knobs::default() },
        Knobs {
            query_prefix: Some("[D] ".to_owned()),
            document_prefix: Some("[Q] ".to_owned()),
            ..Knobs::default()
        },
    ] {
        assert_ne!(plain, fingerprint(copy.path(), changed.clone()), "{changed:?}");
    }
}

/// Any one bit of any tensor that a row depends on, and none of the pooler, which none does.
#[test]
fn one_weight_changes_the_fingerprint() {
    let plain = fingerprint(&checkpoint(CASE), Knobs::default());
    let copy = copy_of(CASE);
    let mut seen = [0, 0];
    for path in files(copy.path()).into_iter().filter(|path| path.ends_with("model.safetensors")) {
        let whole = std::fs::read(&path).unwrap();
        let (header, data) = parts(&whole);
        let start = whole.len() - data.len();
        for (name, tensor) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
            let mut damaged = whole.clone();
            let end = tensor["data_offsets"][1].as_u64().unwrap() as usize;
            damaged[start + end - 4] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            let changes = plain != fingerprint(copy.path(), Knobs::default());
            assert_eq!(changes, !name.starts_with("pooler."), "{name}");
            seen[usize::from(changes)] += 1;
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!(seen[0] == 2 && seen[1] > 50, "{seen:?}");
    assert_eq!(plain, fingerprint(copy.path(), Knobs::default()));
}

/// What the rows depend on beside the weights.
#[test]
fn settings_that_change_rows_change_the_fingerprint() {
    for (file, key, value) in [
        ("config.json", "num_attention_heads", json!(2)),
        ("config.json", "hidden_act", json!("relu")),
        ("config.json", "layer_norm_eps", json!(1e-3)),
        ("1_Dense/config.json", "activation_function", json!("torch.nn.modules.activation.Tanh")),
    ] {
        let copy = copy_of(CASE);
        let plain = fingerprint(copy.path(), Knobs::default());
        let path = copy.path().join(file);
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        assert_ne!(plain, fingerprint(copy.path(), Knobs::default()), "{file}: {key}");
    }
}

#[test]
fn a_file_that_changed_after_it_was_opened_has_no_fingerprint() {
    for file in ["model.safetensors", "1_Dense/model.safetensors"] {
        let copy = copy_of(CASE);
        let model = ColBert::open(copy.path()).unwrap();
        let text = &texts(CASE, "documents")[0];
        let before = model.encode_documents(&[text]).unwrap();
        let asked_in_time = ColBert::open(copy.path()).unwrap();
        let known = asked_in_time.fingerprint().unwrap();
        let path = copy.path().join(file);
        let mut changed = std::fs::read(&path).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, changed).unwrap();
        match model.fingerprint() {
            Err(Error::Model { file: named, .. }) => assert_eq!(named, path),
            other => panic!("{file}: {other:?}"),
        }
        std::fs::write(&path, b"").unwrap();
        assert!(model.fingerprint().is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(model.fingerprint(), Err(Error::Missing { .. })));
        assert_eq!(model.encode_documents(&[text]).unwrap(), before, "an open model depends on its file");
        assert_eq!(
            asked_in_time.fingerprint().unwrap(),
            known,
            "the model that was opened is still that one"
        );
    }
}
