//! One queue of jobs, several threads that take from it, the calling thread among them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::threads::AtWork;

/// How long the caller may go unasked whether to go on.
const TICK: Duration = Duration::from_millis(50);

/// Called now and then with how much is done; its error, [`crate::Error::Interrupted`] say, ends the work.
pub type Observer<'a> = &'a mut dyn FnMut(usize) -> Result<()>;

/// What a long job asks every few milliseconds; at an error it is to stop, and return that error.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Asks an observer about every 50 ms, however often it is reminded.
pub(crate) struct Ticker<'a> {
    observer: Observer<'a>,
    /// None where there is no clock: then it is asked at every reminder.
    asked: Option<Instant>,
}

impl<'a> Ticker<'a> {
    pub(crate) fn new(observer: Observer<'a>) -> Self {
        Self { observer, asked: now() }
    }

    pub(crate) fn remind(&mut self, done: usize) -> Result<()> {
        if self.asked.is_some_and(|asked| asked.elapsed() < TICK) {
            return Ok(());
        }
        (self.observer)(done)?;
        self.asked = now();
        Ok(())
    }
}

/// WebAssembly outside of WASI has no clock: there, to ask for the time panics.
fn now() -> Option<Instant> {
    (!cfg!(all(target_family = "wasm", target_os = "unknown"))).then(Instant::now)
}

/// Has every job done by one of `threads` threads in all, each of which gets one from `worker` and keeps it: what a
/// worker holds is used from job to job. `observer` is called on the calling thread about every 50 ms with the sum of
/// what the workers returned so far (the units done); its error, or the first of a worker, ends the whole, jobs under
/// way where they ask whether to go on.
///
/// The calling thread always works. It has helpers while fewer threads of the process are at work than all of its cores, or
/// `threads` if that is more: callers that are parallel already share the cores. What one leaves, another takes up.
///
/// Threads live for one call only: nothing is left behind that a `fork` could break.
pub(crate) fn run<J: Send, W: FnMut(J, GoOn<'_>) -> Result<usize>>(
    jobs: Vec<J>,
    threads: usize,
    worker: impl Fn() -> W + Sync,
    observer: Observer,
) -> Result<()> {
    let most = AtWork::most(threads);
    let _at_work = AtWork::caller();
    let threads = threads.clamp(1, jobs.len().max(1));
    let queue = Mutex::new(jobs.into_iter());
    let jobs = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let done = AtomicUsize::new(0);
    let failure = OnceLock::new();
    let failed = || failure.get().map_or(Ok(()), |_: &Error| Err(Error::Interrupted));
    let work = |go_on: GoOn| {
        let mut worker = worker();
        while failure.get().is_none() {
            // The lock is free again before the job begins.
            let next = jobs().next();
            let Some(job) = next else { break };
            let outcome = worker(job, &mut *go_on).and_then(|units| {
                done.fetch_add(units, Ordering::Relaxed);
                go_on()
            });
            // Only the first failure is told: the others may be its consequence.
            outcome.unwrap_or_else(|error| drop(failure.set(error)));
        }
    };
    std::thread::scope(|scope| {
        let (leaves, helpers_left) = mpsc::channel::<()>();
        let spawn = |at_work: AtWork, leaves: mpsc::Sender<()>| {
            let (work, mut failed) = (&work, failed);
            std::thread::Builder::new().spawn_scoped(scope, move || {
                let _until_the_end = (at_work, leaves);
                work(&mut failed);
            })
        };
        let mut helpers = Vec::new();
        let mut hire = || {
            while helpers.len() + 1 < threads && jobs().len() > 0 {
                let Some(at_work) = AtWork::helper(most) else { break };
                // Where no more threads can be had, those that could do the work.
                let Ok(helper) = spawn(at_work, leaves.clone()) else { break };
                helpers.push(helper);
            }
        };
        let mut ticker = Ticker::new(&mut *observer);
        let mut ask = || failed().and_then(|()| ticker.remind(done.load(Ordering::Relaxed)));
        hire();
        work(&mut || {
            hire();
            ask()
        });
        drop(leaves);
        // The helpers' last jobs may be long ones.
        while !helpers.is_empty() && helpers_left.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            ask().unwrap_or_else(|error| drop(failure.set(error)));
        }
        for helper in helpers {
            helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    match failure.into_inner() {
        Some(error) => Err(error),
        None => observer(done.into_inner()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::default_threads;

    #[test]
    fn every_job_runs_once_on_any_number_of_threads() {
        for threads in [0, 1, 2, 9] {
            let sum = AtomicUsize::new(0);
            let mut last = 0;
            let worker = || {
                |job: usize, _: GoOn| {
                    sum.fetch_add(job, Ordering::Relaxed);
                    Ok(1)
                }
            };
            let mut tick = |done| {
                last = done;
                Ok(())
            };
            run((0..100).collect(), threads, worker, &mut tick).expect("no job fails");
            assert_eq!((sum.into_inner(), last), (4950, 100));
        }
    }

    #[test]
    fn what_a_worker_holds_stays_with_its_thread() {
        let workers = AtomicUsize::new(0);
        let worker = || {
            workers.fetch_add(1, Ordering::Relaxed);
            let mut jobs = 0;
            move |_: usize, _: GoOn| {
                jobs += 1;
                Ok(jobs)
            }
        };
        let mut done = 0;
        let mut tick = |units| {
            done = units;
            Ok(())
        };
        run((0..100).collect(), 1, worker, &mut tick).expect("no job fails");
        assert_eq!((workers.into_inner(), done), (1, 5050));
    }

    #[test]
    fn the_first_error_ends_the_queue() {
        let ran = AtomicUsize::new(0);
        let worker = || {
            |job: usize, _: GoOn| {
                ran.fetch_add(1, Ordering::Relaxed);
                if job == 3 { Err(Error::shape("job", job, "another")) } else { Ok(1) }
            }
        };
        let result = run((0..10_000).collect(), 2, worker, &mut |_| Ok(()));
        assert!(matches!(result, Err(Error::Shape { .. })));
        assert!(ran.into_inner() < 10_000);
    }

    #[test]
    fn a_tick_can_stop_the_work() {
        let worker = || {
            |_: usize, _: GoOn| {
                std::thread::sleep(Duration::from_millis(10));
                Ok(1)
            }
        };
        let begun = Instant::now();
        let result = run((0..1000).collect(), 2, worker, &mut |_| Err(Error::Interrupted));
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    /// Works until it is told to stop, or for `seconds`.
    fn long_job(seconds: u64, go_on: GoOn) -> Result<usize> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(1));
            go_on()?;
        }
        Ok(1)
    }

    #[test]
    fn a_tick_can_stop_a_long_job_on_any_thread() {
        // One job or several, the last ones on helpers while the caller has nothing left to do.
        for (jobs, threads) in [(vec![60], 1), (vec![60, 60], 2), (vec![0, 60], 2), (vec![60, 0, 0, 0], 3)] {
            let begun = Instant::now();
            let result = run(jobs, threads, || long_job, &mut |_| Err(Error::Interrupted));
            assert!(matches!(result, Err(Error::Interrupted)));
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn an_error_stops_the_long_jobs_of_the_others_and_is_the_one_that_is_told() {
        for order in [[0, 60], [60, 0]] {
            let begun = Instant::now();
            let worker = || {
                |seconds: u64, go_on: GoOn| {
                    if seconds == 0 {
                        return Err(Error::shape("job", seconds, "a long one"));
                    }
                    long_job(seconds, go_on)
                }
            };
            let result = run(order.to_vec(), 2, worker, &mut |_| Ok(()));
            assert!(matches!(result, Err(Error::Shape { .. })));
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }

    /// Notes in `most` how many run this at once, for some milliseconds.
    fn counted(running: &AtomicUsize, most: &AtomicUsize) {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        running.fetch_sub(1, Ordering::SeqCst);
    }

    #[test]
    fn calls_at_once_share_their_helpers() {
        const CALLS: usize = 6;
        let threads = default_threads().expect("no such variable").max(4);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let worker = || {
            |(), _: GoOn| {
                counted(&running, &most);
                Ok(1)
            }
        };
        let call = || run(vec![(); 50], threads, worker, &mut |_| Ok(())).expect("no job fails");
        std::thread::scope(|scope| (0..CALLS).for_each(|_| drop(scope.spawn(call))));
        let most = most.into_inner();
        assert!((2..CALLS + threads).contains(&most), "{most} threads of {CALLS} calls of {threads}");
    }

    #[test]
    fn helpers_come_when_another_call_lets_them_go() {
        let threads = default_threads().expect("no such variable").max(4);
        let others: Vec<_> = (0..threads).map(|_| AtWork::caller()).collect();
        let others = Mutex::new(Some(others));
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let begun = Instant::now();
        let worker = || {
            |job: usize, go_on: GoOn| {
                counted(&running, &most);
                if job == 9 {
                    assert_eq!(most.load(Ordering::SeqCst), 1, "a helper came while none was free");
                    others.lock().expect("no panic").take();
                    // A long job needs not end first.
                    while most.load(Ordering::SeqCst) < 2 && begun.elapsed() < Duration::from_secs(20) {
                        go_on()?;
                        counted(&running, &AtomicUsize::new(0));
                    }
                }
                Ok(1)
            }
        };
        run((0..20).collect(), threads, worker, &mut |_| Ok(())).expect("no job fails");
        assert!(most.into_inner() > 1);
    }

    #[test]
    fn a_panic_of_a_helper_comes_out_and_gives_its_place_back() {
        for _ in 0..100 {
            let worker = || |job: usize, _: GoOn| if job == 7 { panic!("job {job}") } else { Ok(1) };
            let call = || run((0..20).collect(), 4, worker, &mut |_| Ok(()));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
            assert_eq!(
                outcome.expect_err("a job panics").downcast_ref::<String>().expect("its text"),
                "job 7"
            );
        }
        // As many places as 100 panics would have kept; the other tests take a few.
        let helper = AtWork::helper(100);
        assert!(helper.is_some());
    }

    #[test]
    fn the_caller_does_not_sleep_when_the_helpers_are_done() {
        let begun = Instant::now();
        for _ in 0..100 {
            run(vec![(); 4], 4, || |(), _: GoOn| Ok(1), &mut |_| Ok(())).expect("no job fails");
        }
        assert!(begun.elapsed() < 100 * TICK / 2);
    }
}
