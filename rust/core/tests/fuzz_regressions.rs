//! What fuzzing once found stays found: see `rust/fuzz`.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the fuzzer uses the rest")]
#[path = "../../fuzz/src/oracle.rs"]
mod oracle;

use std::path::Path;

use oracle::{Oracle, Outcome};

#[test]
fn no_input_that_was_found_fails_again() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let oracle = Oracle::new(&root.join("tests/goldens")).unwrap();
    let mut count = 0;
    for target in std::fs::read_dir(root.join("rust/fuzz/regressions")).unwrap() {
        for input in std::fs::read_dir(target.unwrap().path()).unwrap().map(|input| input.unwrap().path()) {
            let outcome = oracle.run(&std::fs::read(&input).unwrap());
            let outcome = outcome.unwrap_or_else(|problem| panic!("{}: {problem}", input.display()));
            assert_ne!(outcome, Outcome::NoInput, "{}: no golden has this file", input.display());
            count += 1;
        }
    }
    assert!(count > 0);
}

/// The line, the parts and the whole: what the fuzzer begins with is a checkpoint that encodes.
#[test]
fn every_golden_encodes_from_its_parts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let oracle = Oracle::new(&root.join("tests/goldens")).unwrap();
    for slot in oracle.slots() {
        let input = [slot.name.as_bytes(), b"\n", slot.golden()].concat();
        assert_eq!(oracle.run(&input), Ok(Outcome::Encoded), "{}", slot.name);
    }
    assert_eq!(oracle.run(b"a_bert_pylate/../config.json\n{}"), Ok(Outcome::NoInput));
}
