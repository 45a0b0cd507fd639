//! Memory for large tables, on Linux in huge pages where the system has them: filling a table of 46 MB then takes 23 page
//! faults instead of 11,000.

use std::sync::atomic::{AtomicBool, Ordering};

/// Has the allocator keep what a batch leaves for the next one.
///
/// glibc gives freed memory back to the system when more of it is free in one piece than twice the largest block that was
/// mapped by itself and freed. The results of a layer come to about that: MiniLM then took 440 page faults a batch. To free a
/// large block that nobody touched, two system calls, says what is large here. Other allocators are as they were.
pub(crate) fn keep_freed() {
    const LARGE: usize = 16 << 20;
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        // Hidden, because a block that nobody uses need not be asked for.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}

/// An empty vector with room for `len` values.
pub(crate) fn reserve<T>(len: usize) -> Vec<T> {
    let values = Vec::with_capacity(len);
    advise(&values);
    values
}

/// Zeros that cost nothing until they are written over.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    let values = vec![0.0; len];
    advise(&values);
    values
}

/// The same, or None if there is no room for them.
pub(crate) fn try_zeros(len: usize) -> Option<Vec<f32>> {
    // Asked for first, because `vec!` ends the process where there is no room.
    Vec::<f32>::new().try_reserve_exact(len).ok()?;
    Some(zeros(len))
}

/// Asks for huge pages, for what was not written to yet.
#[allow(clippy::ptr_arg)] // the room counts, not what is in it
pub(crate) fn advise<T>(values: &Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let begin = values.as_ptr() as usize;
        let start = begin.next_multiple_of(HUGE);
        let end = (begin + values.capacity() * size_of::<T>()) / HUGE * HUGE;
        if start < end {
            // SAFETY: the range lies inside the allocation, and the advice changes no content. That it may be refused is
            // of no consequence.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = values;
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Page faults of this thread so far.
    fn faults() -> i64 {
        // SAFETY: zeros are a value of it, and the call fills it in.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
            usage.ru_minflt
        }
    }

    #[test]
    fn what_a_batch_leaves_is_there_for_the_next() {
        keep_freed();
        let batch = || drop(std::hint::black_box([1, 2, 3].map(|megabytes| vec![1u8; megabytes << 20])));
        batch();
        let before = faults();
        batch();
        // It would be 1,536 of 4 KB.
        assert!(faults() - before < 200, "{} page faults", faults() - before);
    }
}
