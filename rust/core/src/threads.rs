//! How many threads a call may have, and how many of this process are at work already.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Says how many threads to use where the caller does not.
const VARIABLE: &str = "CHANDELIER_THREADS";

/// The number of threads to use where the caller does not say: what the environment variable `CHANDELIER_THREADS` says now if it
/// is set and not empty, else what the process might use (affinity and the cgroup's quota) when it first asked.
///
/// ```
/// assert!(chandelier::default_threads()? >= 1);
/// # Ok::<(), chandelier::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if the variable is no whole number of at least 1.
pub fn default_threads() -> Result<usize> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(available());
    };
    let digits = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok()).filter(|n| (1..1 << 31).contains(n));
    number.ok_or_else(|| {
        let wanted = "a whole number from 1 to 2147483647, or no such variable for all cores";
        Error::argument(VARIABLE, format!("{value:?}"), wanted)
    })
}

/// To ask takes 40 microseconds, as long as MaxSim over a few documents. No `OnceLock`: a child that is forked while
/// another thread fills it would wait for that thread forever.
fn available() -> usize {
    static AVAILABLE: AtomicUsize = AtomicUsize::new(0);
    let known = AVAILABLE.load(Ordering::Relaxed);
    if known > 0 {
        return known;
    }
    let found = std::thread::available_parallelism().map_or(1, usize::from);
    AVAILABLE.store(found, Ordering::Relaxed);
    found
}

/// A thread at work in a call, for as long as this lives: several callers share the cores instead of taking them all each.
pub(crate) struct AtWork(());

impl AtWork {
    /// The thread that calls, which works in any case.
    pub(crate) fn caller() -> Self {
        change(|count| Some(count + 1));
        Self(())
    }

    /// How many threads of the process may be at work for a call that asks for `threads`: all of its cores, or that if it
    /// is more.
    pub(crate) fn most(threads: usize) -> usize {
        // A number that cannot be is no matter here: who came without one of his own was told.
        default_threads().map_or(threads, |all| all.max(threads))
    }

    /// One that would help it, if fewer than `most` of the process are at work.
    pub(crate) fn helper(most: usize) -> Option<Self> {
        change(|count| ((count as usize) < most).then_some(count + 1)).then(|| Self(()))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        change(|count| Some(count.saturating_sub(1)));
    }
}

/// Changes how many threads of this process are at work, if `step` has a new number for that.
fn change(step: impl Fn(u32) -> Option<u32>) -> bool {
    /// The process in the upper half, its threads in the lower one: a forked child inherits the number of its parent's
    /// threads, but not the threads.
    static AT_WORK: AtomicU64 = AtomicU64::new(0);
    // Only Unix forks, and WebAssembly has no processes to ask about.
    let process = if cfg!(unix) { u64::from(std::process::id()) << 32 } else { 0 };
    let next = |word: u64| {
        let count = if word >> 32 << 32 == process { word as u32 } else { 0 };
        step(count).map(|count| process | u64::from(count))
    };
    AT_WORK.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests may have threads at work, too: there are never fewer than those of this one.
    #[test]
    fn helpers_come_only_while_fewer_are_at_work() {
        let callers = [AtWork::caller(), AtWork::caller()];
        assert!(AtWork::helper(2).is_none());
        let helper = AtWork::helper(usize::MAX).expect("there is always room below that");
        assert!(AtWork::helper(3).is_none());
        drop((callers, helper));
    }
}
