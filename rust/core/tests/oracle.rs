//! candle-transformers' padded BERT as an independent oracle of the whole path from ids to unit rows.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/padded_bert.rs"]
mod padded_bert;

use chandelier::{ColBert, MultiVectors, Role, Tokens};
use common::{TOLERANCE, checkpoint, texts, worst};
use padded_bert::PaddedBert;

/// The BERT goldens whose names the oracle can read (the others have `gamma` and `beta`).
const CASES: [&str; 6] = [
    "a_bert_pylate",
    "b_bert_attend",
    "c_bert_no_prefix_no_skiplist",
    "t_skiplist_unk",
    "u_st_modules",
    "v_prompts",
];

/// The kept rows of every text out of one padded batch of all of them.
fn oracle_rows(oracle: &PaddedBert, tokens: &[Tokens]) -> Vec<Vec<f32>> {
    let batch: Vec<_> = tokens.iter().map(|t| (t.ids.as_slice(), t.attended)).collect();
    let rows = oracle.forward(&batch).unwrap().to_vec3::<f32>().unwrap();
    tokens
        .iter()
        .zip(rows)
        .map(|(text, rows)| {
            let kept = text.keep.iter().zip(rows).filter(|(keep, _)| **keep);
            kept.flat_map(|(_, row)| row).collect()
        })
        .collect()
}

fn compare(case: &str, role: Role, texts: &[String], got: &MultiVectors, model: &ColBert) {
    let tokens: Vec<Tokens> =
        texts.iter().map(|text| model.tokenizer().tokenize(text, "", role).unwrap()).collect();
    if role == Role::Document {
        let lengths = || tokens.iter().map(|t| t.ids.len());
        assert!(lengths().max() >= lengths().min().map(|n| 10 * n), "{case}: lengths too much alike");
    }
    let oracle = PaddedBert::open(&checkpoint(case)).unwrap();
    assert_eq!(got.len(), texts.len());
    for (index, want) in oracle_rows(&oracle, &tokens).iter().enumerate() {
        let difference = worst(got.get(index), want);
        assert!(difference <= TOLERANCE, "{case}: {role:?} {index}: off by {difference:e}");
    }
}

#[test]
fn documents_equal_the_padded_bert() {
    for case in CASES {
        let model = ColBert::open(checkpoint(case)).unwrap();
        let documents = texts(case, "documents");
        let got = model.encode_documents(&documents).unwrap();
        compare(case, Role::Document, &documents, &got, &model);
    }
}

/// The oracle hides keys and nothing else, so its expansion rows follow the same rule as ours and are compared too.
#[test]
fn queries_equal_the_padded_bert_in_every_row() {
    for case in CASES {
        let model = ColBert::open(checkpoint(case)).unwrap();
        let queries = texts(case, "queries");
        let got = model.encode_queries(&queries).unwrap();
        compare(case, Role::Query, &queries, &got, &model);
    }
}

/// A comparison that cannot fail proves nothing: the oracle with one id changed, or the mask, must be far off.
#[test]
fn the_oracle_notices_a_wrong_id_and_a_wrong_mask() {
    let case = "a_bert_pylate";
    let model = ColBert::open(checkpoint(case)).unwrap();
    let oracle = PaddedBert::open(&checkpoint(case)).unwrap();
    let query = &texts(case, "queries")[0];
    let tokens = model.tokenizer().tokenize(query, "", Role::Query).unwrap();
    let got = model.encode_queries(&[query]).unwrap();
    let mut other_id = tokens.clone();
    other_id.ids[2] += 1;
    let mut other_mask = tokens.clone();
    other_mask.attended += 1;
    assert!(worst(got.get(0), &oracle_rows(&oracle, &[tokens])[0]) <= TOLERANCE);
    for wrong in [other_id, other_mask] {
        assert!(worst(got.get(0), &oracle_rows(&oracle, &[wrong])[0]) > 100.0 * TOLERANCE);
    }
}
