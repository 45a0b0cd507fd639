//! How many float32 operations a second this machine can do at most: what `make bench-maths` holds its times against.
//!
//! ```text
//! cargo run --release -p chandelier --example peak -- THREADS
//! ```
//!
//! Every thread multiplies and adds in registers, in more independent chains than the processor can have under way, and
//! touches no memory. Prints one line of JSON: operations a second by the clock, the best of several short bursts, and
//! operations a second of one processor, all bursts together, which other programs spoil less.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

const BURSTS: usize = 20;
/// Steps of all chains in one burst, some milliseconds.
const STEPS: usize = 1 << 20;
/// Enough for two units of a latency of 5, and the most that sixteen registers leave room for.
const CHAINS: usize = 12;

/// Instructions by name, values in one register, and the function that runs all chains `steps` times.
struct Path {
    name: &'static str,
    lanes: usize,
    run: fn(usize),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [threads] = arguments.as_slice() else { return Err("usage: peak THREADS".into()) };
    let threads: usize = threads.parse()?;
    let path = best_path();
    let flops = (threads * STEPS * CHAINS * path.lanes * 2) as f64 / 1e9;
    let (mut best, mut processor) = (Duration::MAX, Duration::ZERO);
    for _ in 0..BURSTS {
        let start = Instant::now();
        processor += burst(&path, threads)?;
        best = best.min(start.elapsed());
    }
    let by_clock = flops / best.as_secs_f64();
    let by_processor = flops * BURSTS as f64 / processor.as_secs_f64();
    println!(
        r#"{{"simd": "{}", "threads": {threads}, "gflop_per_s": {by_clock:.1}, "gflop_per_cpu_s": {by_processor:.1}}}"#,
        path.name
    );
    Ok(())
}

/// Runs all chains on every thread; returns the processor time that the threads took together.
fn burst(path: &Path, threads: usize) -> Result<Duration, Box<dyn Error>> {
    let work = || -> std::io::Result<Duration> {
        let before = processor_time()?;
        (path.run)(STEPS);
        Ok(processor_time()? - before)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let times =
            workers.into_iter().map(|worker| Ok(worker.join().map_err(|_| "a thread panicked")??));
        times.sum()
    })
}

/// Of this thread.
#[cfg(unix)]
fn processor_time() -> std::io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local value of the type that the call fills in.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(not(unix))]
fn processor_time() -> std::io::Result<Duration> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn best_path() -> Path {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function was compiled for.
            return Path { name: "avx512", lanes: 16, run: |steps| unsafe { x86::avx512(steps) } };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return Path { name: "avx2", lanes: 8, run: |steps| unsafe { x86::avx2(steps) } };
        }
    }
    Path { name: if FUSED { "fma" } else { "portable" }, lanes: LANES, run: portable }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, black_box};
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(steps: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        // Hidden, because chains that are known to begin alike are one chain.
        let mut sums = black_box([a; CHAINS]);
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(steps: usize) {
        let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = black_box([a; CHAINS]);
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }
}

/// What the compiler makes registers of where it has no better path: NEON on ARM, SSE on x86.
const LANES: usize = 4;
/// Whether one instruction multiplies and adds; else `mul_add` would be a call, slower than the two it stands for.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

fn portable(steps: usize) {
    let (a, b) = (black_box([0.5f32; LANES]), black_box([0.25f32; LANES]));
    let mut sums = black_box([a; CHAINS]);
    for _ in 0..steps {
        for sum in &mut sums {
            for ((sum, a), b) in sum.iter_mut().zip(&a).zip(&b) {
                *sum = if FUSED { a.mul_add(*b, *sum) } else { a * b + *sum };
            }
        }
    }
    black_box(sums);
}
