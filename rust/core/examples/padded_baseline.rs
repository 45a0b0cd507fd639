//! candle-transformers' BERT on padded batches, timed: the baseline of `tests/benchmarks`, whose README has the
//! contract.
//!
//! ```text
//! cargo run --release -p chandelier --example padded_baseline -- MODEL_DIR IDS_FILE ROUNDS
//! ```
//!
//! Batches of 32 texts are sorted by length and padded to their longest; candle takes as many threads as
//! `RAYON_NUM_THREADS` says. Medians over the rounds are printed as one line of JSON.

#![allow(clippy::print_stdout)]

#[path = "../tests/common/padded_bert.rs"]
mod padded_bert;

use std::path::Path;
use std::time::Instant;

use candle_core::Result;
use padded_bert::PaddedBert;
use serde_json::{Value, json};

const BATCH: usize = 32;

/// Ids, and how many of them are attended to.
type Text = (Vec<u32>, usize);

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file, rounds] = arguments.as_slice() else {
        return Err("usage: padded_baseline MODEL_DIR IDS_FILE ROUNDS".into());
    };
    let rounds: usize = rounds.parse()?;
    if rounds == 0 {
        return Err("ROUNDS: got 0, wanted at least 1".into());
    }
    let (documents, queries) = read(Path::new(file))?;
    let model = PaddedBert::open(Path::new(folder))?;
    encode(&model, &documents[..documents.len().min(3 * BATCH)])?;
    encode(&model, &queries[..queries.len().min(BATCH)])?;

    let (mut all_documents, mut all_queries, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        all_documents.push(documents.len() as f64 / seconds(|| encode(&model, &documents))?);
        all_queries.push(queries.len() as f64 / seconds(|| encode(&model, &queries))?);
        for query in &queries {
            single.push(1e3 * seconds(|| encode(&model, std::slice::from_ref(query)))?);
        }
    }
    let figures = json!({
        "docs_per_s": median(all_documents),
        "queries_per_s": median(all_queries),
        "one_query_ms": median(single),
    });
    println!("{figures}");
    Ok(())
}

fn read(file: &Path) -> std::result::Result<(Vec<Text>, Vec<Text>), Box<dyn std::error::Error>> {
    let mut json: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let documents: Vec<Vec<u32>> = serde_json::from_value(json["documents"].take())?;
    let documents = documents.into_iter().map(|ids| (ids.len(), ids)).map(|(length, ids)| (ids, length));
    let mut queries = Vec::new();
    for query in json["queries"].as_array_mut().ok_or("IDS_FILE: wanted a list under \"queries\"")? {
        let ids = serde_json::from_value(query["ids"].take())?;
        queries.push((ids, serde_json::from_value(query["attended"].take())?));
    }
    Ok((documents.collect(), queries))
}

/// The rows of every text without its padding, in input order.
fn encode(model: &PaddedBert, texts: &[Text]) -> Result<Vec<Vec<f32>>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(texts[i].0.len()));
    let mut results = vec![Vec::new(); texts.len()];
    for batch in order.chunks(BATCH) {
        let padded: Vec<_> = batch.iter().map(|&i| (texts[i].0.as_slice(), texts[i].1)).collect();
        let rows = model.forward(&padded)?;
        for (place, &index) in batch.iter().enumerate() {
            let own = rows.get(place)?.narrow(0, 0, texts[index].0.len())?;
            results[index] = own.flatten_all()?.to_vec1()?;
        }
    }
    Ok(results)
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    std::hint::black_box(work()?);
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { values[middle - 1..=middle].iter().sum::<f64>() / 2.0 }
}
