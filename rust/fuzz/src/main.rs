//! All fuzz targets in one program; `run.sh` starts it once a target. `FUZZ_SEEDS` and `FUZZ_TARGET` in the environment
//! ask for the target's seeds to be written to that folder.

#![no_main]

mod mutate;
mod oracle;
mod seeds;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use oracle::{Oracle, Outcome};

static ORACLE: LazyLock<Oracle> = LazyLock::new(|| {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens");
    Oracle::new(&goldens).expect("the goldens can be copied")
});

/// What the last panic said: told only if it comes out of the library.
static PANIC: Mutex<String> = Mutex::new(String::new());

fuzz_target!(init: set_up(), |data: &[u8]| -> Corpus {
    match ORACLE.run(data) {
        Ok(Outcome::NoInput) => Corpus::Reject,
        Ok(Outcome::Refused | Outcome::Encoded) => Corpus::Keep,
        Err(problem) => {
            eprintln!("\n{problem}\n{}", PANIC.lock().unwrap_or_else(PoisonError::into_inner));
            std::process::abort()
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let start = ORACLE.slot_of(&data[..size]).map_or(0, |(_, content)| size - content.len());
    mutate::mutate(data, start, size, max_size, seed)
});

fn set_up() {
    // libfuzzer-sys ends the process at any panic, but one that the library catches is none of our business.
    std::panic::set_hook(Box::new(|panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) =
            format!("{panic}\n{}", std::backtrace::Backtrace::capture());
    }));
    let (Ok(folder), Ok(target)) = (std::env::var("FUZZ_SEEDS"), std::env::var("FUZZ_TARGET")) else {
        return;
    };
    let seeds = ORACLE.slots().iter().filter(|slot| slot.target == target).flat_map(seeds::seeds);
    for (index, seed) in seeds.enumerate() {
        std::fs::write(Path::new(&folder).join(format!("seed-{index}")), seed).expect("seeds can be written");
    }
}

/// No part of a small checkpoint is worth a gigabyte. libFuzzer's own limit needs a sanitizer, and the resident size
/// does not show what is never touched.
struct Bounded;

const MOST: usize = 1 << 30;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn bounded(size: usize) {
    if size > MOST {
        eprintln!("\nasks for {size} bytes at once");
        std::process::abort();
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        bounded(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        bounded(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        bounded(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}
