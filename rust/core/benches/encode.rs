//! Encoding, tokenising and MaxSim, and candle-transformers' padded BERT beside them on the same ids.
//!
//! `cargo bench -p chandelier` uses the real MiniLM weights of `target/goldens/r_minilm_real` if they were built, and else the tiny
//! golden `a`; the name of every benchmark says which. Figures of two machines, or two days, do not compare.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/padded_bert.rs"]
mod padded_bert;

use std::hint::black_box;
use std::path::{Path, PathBuf};

use chandelier::{ColBert, Role, maxsim};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use padded_bert::PaddedBert;

const WORDS: [&str; 12] = [
    "river",
    "bridge",
    "the",
    "of",
    "stone",
    "market",
    "in",
    "seventeen",
    "boats",
    "and",
    "harbour,",
    "winter.",
];

/// The name for the figures and the checkpoint's folder.
fn model() -> (&'static str, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let real = root.join("target/goldens/r_minilm_real");
    if real.join("modules.json").exists() {
        return ("minilm", real);
    }
    ("golden a", root.join("tests/goldens/a_bert_pylate/checkpoint"))
}

/// Texts of these many words, no two alike.
fn texts(words: impl IntoIterator<Item = usize>) -> Vec<String> {
    let text = |(index, count): (usize, usize)| {
        (0..count).map(|i| WORDS[(index * 5 + i * 7 + i / 12) % WORDS.len()]).collect::<Vec<_>>().join(" ")
    };
    words.into_iter().enumerate().map(text).collect()
}

fn corpora() -> [(&'static str, Vec<String>); 3] {
    [
        ("64 short documents", texts([12; 64])),
        ("16 long documents", texts([170; 16])),
        ("32 mixed documents", texts((0..32).map(|i| 4 + i * i % 161))),
    ]
}

fn encode(c: &mut Criterion) {
    let (name, folder) = model();
    let model = ColBert::open(&folder).unwrap();
    let peer = PaddedBert::open(&folder).unwrap();
    let mut group = c.benchmark_group(format!("encode, {name}"));
    group.sample_size(10);
    for (corpus, documents) in corpora() {
        let tokens: Vec<_> =
            documents.iter().map(|t| model.tokenizer().tokenize(t, "", Role::Document).unwrap()).collect();
        let batch: Vec<_> = tokens.iter().map(|t| (t.ids.as_slice(), t.attended)).collect();
        group.throughput(Throughput::Elements(documents.len() as u64));
        group.bench_function(format!("{corpus}/chandelier"), |b| {
            b.iter(|| model.encode_documents(black_box(&documents)).unwrap())
        });
        // The peer starts from ids, in one padded batch.
        group.bench_function(format!("{corpus}/candle-transformers, padded"), |b| {
            b.iter(|| peer.forward(black_box(&batch)).unwrap())
        });
    }
    let query = texts([6]);
    let tokens = model.tokenizer().tokenize(&query[0], "", Role::Query).unwrap();
    group.throughput(Throughput::Elements(1));
    group.bench_function("one query/chandelier", |b| {
        b.iter(|| model.encode_queries(black_box(&query)).unwrap())
    });
    group.bench_function("one query/candle-transformers, padded", |b| {
        b.iter(|| peer.forward(black_box(&[(tokens.ids.as_slice(), tokens.attended)])).unwrap())
    });
}

fn tokenize(c: &mut Criterion) {
    let (name, folder) = model();
    let model = ColBert::open(folder).unwrap();
    let mut group = c.benchmark_group(format!("tokenise, {name}"));
    for (corpus, documents) in corpora() {
        group.throughput(Throughput::Elements(documents.len() as u64));
        group.bench_function(corpus, |b| {
            b.iter(|| {
                for text in &documents {
                    black_box(model.tokenizer().tokenize(black_box(text), "", Role::Document).unwrap());
                }
            })
        });
    }
}

fn score(c: &mut Criterion) {
    let (name, folder) = model();
    let model = ColBert::open(folder).unwrap();
    let documents = model.encode_documents(&texts((0..400).map(|i| 4 + i * i % 161))).unwrap();
    let query = model.encode_queries(&texts([6])).unwrap();
    let mut group = c.benchmark_group(format!("maxsim, {name}"));
    group.throughput(Throughput::Elements(documents.len() as u64));
    group.bench_function("one query, 400 documents", |b| {
        b.iter(|| maxsim(black_box(query.get(0)), black_box(&documents)).unwrap())
    });
}

criterion_group!(benches, encode, tokenize, score);
criterion_main!(benches);
