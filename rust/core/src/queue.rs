//! One queue of jobs, several threads that take from it, the calling thread among them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;

/// How long the caller may go unasked whether to go on.
const TICK: Duration = Duration::from_millis(50);

/// Called now and then with how much is done; its error, [`crate::Error::Interrupted`] say, ends the work.
pub type Observer<'a> = &'a mut dyn FnMut(usize) -> Result<()>;

/// Asks an observer about every 50 ms, however often it is reminded.
pub(crate) struct Ticker<'a> {
    observer: Observer<'a>,
    asked: Instant,
}

impl<'a> Ticker<'a> {
    pub(crate) fn new(observer: Observer<'a>) -> Self {
        Self { observer, asked: Instant::now() }
    }

    pub(crate) fn remind(&mut self, done: usize) -> Result<()> {
        if self.asked.elapsed() < TICK {
            return Ok(());
        }
        (self.observer)(done)?;
        self.asked = Instant::now();
        Ok(())
    }
}

/// Does `work` on every job, with `threads` threads in all. While jobs are left, `observer` is called on the calling
/// thread about every 50 ms with the sum of what `work` returned so far (the units done); its error, or the first
/// of `work`, ends the whole after the jobs under way.
///
/// Threads live for one call only: nothing is left behind that a `fork` could break.
pub(crate) fn run<J: Send>(
    jobs: Vec<J>,
    threads: usize,
    work: impl Fn(J) -> Result<usize> + Sync,
    observer: Observer,
) -> Result<()> {
    let threads = threads.clamp(1, jobs.len().max(1));
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let done = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let step = |job| -> Result<()> {
        let units = work(job).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        done.fetch_add(units, Ordering::Relaxed);
        Ok(())
    };
    std::thread::scope(|scope| {
        let helper = || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let Some(job) = next() else { break };
                step(job)?;
            }
            Ok(())
        };
        // Where no more threads can be had, those that could do the work.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, helper).ok();
        let helpers: Vec<_> = (1..threads).map_while(spawn).collect();
        let own = (|| {
            let mut ticker = Ticker::new(&mut *observer);
            while !stop.load(Ordering::Relaxed) {
                let Some(job) = next() else { break };
                step(job)?;
                let asked = ticker.remind(done.load(Ordering::Relaxed));
                asked.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        })();
        let others =
            helpers.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        others.fold(own, Result::and)
    })?;
    observer(done.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn every_job_runs_once_on_any_number_of_threads() {
        for threads in [0, 1, 2, 9] {
            let sum = AtomicUsize::new(0);
            let mut last = 0;
            let work = |job: usize| {
                sum.fetch_add(job, Ordering::Relaxed);
                Ok(1)
            };
            let mut tick = |done| {
                last = done;
                Ok(())
            };
            run((0..100).collect(), threads, work, &mut tick).expect("no job fails");
            assert_eq!((sum.into_inner(), last), (4950, 100));
        }
    }

    #[test]
    fn the_first_error_ends_the_queue() {
        let ran = AtomicUsize::new(0);
        let work = |job: usize| {
            ran.fetch_add(1, Ordering::Relaxed);
            if job == 3 { Err(Error::Interrupted) } else { Ok(1) }
        };
        let result = run((0..10_000).collect(), 2, work, &mut |_| Ok(()));
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(ran.into_inner() < 10_000);
    }

    #[test]
    fn a_tick_can_stop_the_work() {
        let work = |_: usize| {
            std::thread::sleep(Duration::from_millis(10));
            Ok(1)
        };
        let begun = Instant::now();
        let result = run((0..1000).collect(), 2, work, &mut |_| Err(Error::Interrupted));
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
