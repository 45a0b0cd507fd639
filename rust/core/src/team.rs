//! A few threads that share the operations of one batch, where there are fewer batches than threads.
//!
//! An operation is cut into parts, which whoever is free takes: the thread that leads waits for nobody who has not begun.
//! Between operations the helpers watch a number, since to wake a thread takes as long as many a part does; after a while
//! they sleep. They live for one call only, as those of `queue` do.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::threads::AtWork;

/// How long a helper watches before it sleeps: longer than what is left between two operations that are shared.
const WATCH: Duration = Duration::from_micros(100);

thread_local! {
    /// The team that this thread leads.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// Runs `call`, in which what this thread gives to [`share`] is shared among up to `threads` threads, itself among them:
/// fewer where others of the process are at work.
pub(crate) fn with<T>(threads: usize, call: impl FnOnce() -> T) -> T {
    with_helpers(threads, || AtWork::helper(AtWork::most(threads)), call)
}

/// The same; each helper holds what `hire` gives for it, until there is none.
fn with_helpers<T, H: Send>(
    threads: usize,
    mut hire: impl FnMut() -> Option<H>,
    call: impl FnOnce() -> T,
) -> T {
    if threads < 2 {
        return call();
    }
    let team = Arc::new(Team { threads, ..Team::default() });
    std::thread::scope(|scope| {
        for hired in (1..threads).map_while(|_| hire()) {
            let team = team.clone();
            let help = move || {
                let _hired = hired;
                team.help();
            };
            // Where no more threads can be had, fewer do the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, help);
        }
        let _leading = Leading { outer: TEAM.replace(Some(team)) };
        call()
    })
}

/// Computes all of `parts`, in runs that may be computed on several threads at once.
///
/// # Panics
/// If `work` does, on any thread.
pub(crate) fn share(parts: usize, work: impl Fn(Range<usize>) + Sync) {
    let team = if parts < 2 { None } else { TEAM.with_borrow(Option::clone) };
    let Some(team) = team else { return work(0..parts) };
    let next = AtomicUsize::new(0);
    // Long runs first, whose parts follow each other in memory, then short ones, so that all are done at the same time.
    let take = |from: usize| (from < parts).then(|| from + ((parts - from) / (2 * team.threads)).max(1));
    let run = || {
        while let Ok(from) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            work(from..take(from).unwrap_or(parts));
        }
    };
    let open = team.open(&run);
    run();
    drop(open);
    assert!(!team.failed.load(Ordering::Relaxed), "a thread that shared an operation panicked");
}

#[derive(Default)]
struct Team {
    threads: usize,
    state: Mutex<State>,
    /// Told of every change of the state that a sleeping helper wants to know of.
    changed: Condvar,
    /// The round of the state, for those who watch.
    round: AtomicUsize,
    /// Helpers that may be in the operation that is open, or was last.
    inside: AtomicUsize,
    failed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// How many operations were opened, and one more when all is over.
    round: usize,
    open: Option<Operation>,
    over: bool,
    asleep: usize,
}

/// An operation that helpers may enter.
#[derive(Clone, Copy)]
struct Operation(*const (dyn Fn() + Sync));

// SAFETY: what it points to may be called from any thread.
unsafe impl Send for Operation {}

impl Team {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets helpers enter `run` for as long as the result lives.
    fn open<'a>(&'a self, run: &'a (dyn Fn() + Sync + 'a)) -> Open<'a> {
        // SAFETY: only the lifetime changes. Nobody enters once the result is dropped, which waits for all who are inside; and
        // it is dropped in `share`, even when that panics.
        let run: &'static (dyn Fn() + Sync) = unsafe { std::mem::transmute(run) };
        self.announce(|state| state.open = Some(Operation(run)));
        Open(self)
    }

    fn announce(&self, change: impl FnOnce(&mut State)) {
        let (round, asleep) = {
            let mut state = self.state();
            change(&mut state);
            state.round += 1;
            (state.round, state.asleep)
        };
        self.round.store(round, Ordering::Release);
        if asleep > 0 {
            self.changed.notify_all();
        }
    }

    /// What a helper does until all is over.
    fn help(&self) {
        let mut known = 0;
        while let Some((round, operation)) = self.next(known) {
            known = round;
            if let Some(Operation(run)) = operation {
                let _inside = Inside(self);
                // SAFETY: it was open when this thread was counted as inside, so whoever opened it waits.
                unsafe { (*run)() }
            }
        }
    }

    /// Waits for another round than the known one, and enters what is open in it; none when all is over.
    fn next(&self, known: usize) -> Option<(usize, Option<Operation>)> {
        let begun = Instant::now();
        while self.round.load(Ordering::Acquire) == known && begun.elapsed() < WATCH {
            std::hint::spin_loop();
        }
        let mut state = self.state();
        while state.round == known && !state.over {
            state.asleep += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
        if state.open.is_some() {
            self.inside.fetch_add(1, Ordering::Relaxed);
        }
        (!state.over).then_some((state.round, state.open))
    }
}

/// An operation that is open.
struct Open<'a>(&'a Team);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.state().open = None;
        let begun = Instant::now();
        // What helpers wrote is to be seen from here on.
        while self.0.inside.load(Ordering::Acquire) > 0 {
            if begun.elapsed() < WATCH { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// A helper in an operation.
struct Inside<'a>(&'a Team);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        self.0.inside.fetch_sub(1, Ordering::Release);
    }
}

/// A thread that leads a team, and what it led before.
struct Leading {
    outer: Option<Arc<Team>>,
}

impl Drop for Leading {
    fn drop(&mut self) {
        if let Some(team) = TEAM.replace(self.outer.take()) {
            team.announce(|state| state.over = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All helpers that are asked for, whatever other tests have at work.
    fn with<T>(threads: usize, call: impl FnOnce() -> T) -> T {
        with_helpers(threads, || Some(()), call)
    }

    #[test]
    fn every_part_is_computed_once_alone_and_in_any_team() {
        for threads in [0, 1, 2, 5] {
            with(threads, || {
                for parts in [0, 1, 2, 7, 100, 0, 3] {
                    let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                    share(parts, |range| {
                        for count in &counts[range] {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    assert!(
                        counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                        "{threads}, {parts}"
                    );
                }
            });
        }
    }

    #[test]
    fn several_threads_take_part_also_after_they_slept() {
        with(2, || {
            for pause in [0, 5] {
                std::thread::sleep(Duration::from_millis(pause));
                let seen = Mutex::new(Vec::new());
                let note = || seen.lock().expect("nobody panics").push(std::thread::current().id());
                share(40, |range| {
                    for _ in range {
                        note();
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
                let mut seen = seen.into_inner().expect("nobody panics");
                seen.sort_by_key(|id| format!("{id:?}"));
                seen.dedup();
                assert_eq!(seen.len(), 2);
            }
        });
    }

    #[test]
    fn a_panic_of_any_thread_is_one_of_the_caller() {
        for own in [true, false] {
            let leader = std::thread::current().id();
            let work = |_: Range<usize>| {
                std::thread::sleep(Duration::from_millis(2));
                assert!((std::thread::current().id() == leader) != own, "meant to be");
            };
            let call = || with(2, || share(40, work));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).expect_err("a part panicked");
            // The thread leads no team any more.
            assert!(TEAM.with_borrow(Option::is_none));
        }
    }

    #[test]
    fn helpers_are_gone_when_the_call_is() {
        let team = with(3, || TEAM.with_borrow(Option::clone)).expect("there was one");
        assert_eq!(Arc::strong_count(&team), 1);
    }
}
