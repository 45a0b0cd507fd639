//! Where the time of encoding goes, operation by operation: what `make profile` prints.
//!
//! ```text
//! cargo run --release -p chandelier --example profile -- MODEL_DIR TEXTS_FILE ROUNDS PEAK DTYPE
//! ```
//!
//! Encodes the lines of the file as documents on one thread, and prints of every operation the processor's time (the least of
//! several rounds, since other programs only ever add to it), its share of the whole, and the speed of its matrix products beside
//! `PEAK`, the GFLOP/s that the example `peak` measures.

#![allow(clippy::print_stdout)]

use std::error::Error;

use chandelier::ops::{Spent, profile};
use chandelier::{ColBert, OpenOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file, rounds, peak, dtype] = arguments.as_slice() else {
        return Err("usage: profile MODEL_DIR TEXTS_FILE ROUNDS PEAK DTYPE".into());
    };
    let (rounds, peak): (usize, f64) = (rounds.parse()?, peak.parse()?);
    let texts = std::fs::read_to_string(file)?;
    let texts: Vec<&str> = texts.lines().collect();
    let options = OpenOptions { threads: Some(1), dtype: dtype.parse()?, ..Default::default() };
    let model = ColBert::open_with(folder, options)?;

    let mut best: Vec<Spent> = Vec::new();
    let mut whole = f64::INFINITY;
    for _ in 0..rounds {
        let (vectors, time, spent) = profile(|| model.encode_documents(&texts));
        vectors?;
        whole = whole.min(time.as_secs_f64());
        if best.is_empty() {
            best = spent;
        } else {
            best.iter_mut().zip(&spent).for_each(|(best, spent)| best.time = best.time.min(spent.time));
        }
    }

    println!(
        "{} texts, {:.1} texts/s of one processor, {}",
        texts.len(),
        texts.len() as f64 / whole,
        model.dtype()
    );
    println!(
        "{:<36} {:>6} {:>9} {:>7} {:>8} {:>8}",
        "operation", "calls", "ms", "share", "GFLOP/s", "of peak"
    );
    let (mut inside, mut flop) = (0.0, 0.0);
    for Spent { operation, calls, time, flop: own } in &best {
        let seconds = time.as_secs_f64();
        line(operation, &calls.to_string(), seconds, whole, *own, peak);
        inside += seconds;
        flop += own;
    }
    line("all else (tokenising, rows)", "", (whole - inside).max(0.0), whole, 0.0, peak);
    line("together", "", whole, whole, flop, peak);
    Ok(())
}

fn line(name: &str, calls: &str, seconds: f64, whole: f64, flop: f64, peak: f64) {
    let share = 100.0 * seconds / whole;
    print!("{name:<36} {calls:>6} {:>9.2} {share:>6.1}%", 1e3 * seconds);
    let speed = flop / 1e9 / seconds;
    if flop > 0.0 { println!(" {speed:>8.1} {:>7.1}%", 100.0 * speed / peak) } else { println!() }
}
