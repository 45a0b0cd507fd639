//! Memory for large tables.

/// An empty vector with room for `len` values, on Linux in huge pages where the system has them: filling a table of
/// 46 MB then takes 23 page faults instead of 11,000.
pub(crate) fn reserve(len: usize) -> Vec<f32> {
    let values: Vec<f32> = Vec::with_capacity(len);
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let start = (values.as_ptr() as usize).next_multiple_of(HUGE);
        let end = (values.as_ptr() as usize + values.capacity() * size_of::<f32>()) / HUGE * HUGE;
        if start < end {
            // SAFETY: the range lies inside the allocation, and the advice changes no content. That it may be refused is
            // of no consequence.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    values
}
