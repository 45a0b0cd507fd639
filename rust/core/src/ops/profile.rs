//! Where the processor's time of a call goes, operation by operation.

use std::cell::RefCell;
use std::time::Duration;

/// What one kind of operation took.
#[derive(Debug, Clone, PartialEq)]
pub struct Spent {
    /// The operation, with the sizes that its speed depends on.
    pub operation: String,
    /// How often it ran.
    pub calls: usize,
    /// Of the processor, in all calls together.
    pub time: Duration,
    /// Floating-point operations of its matrix products, in all calls together; 0 where it has none.
    pub flop: f64,
}

thread_local! {
    static SPENT: RefCell<Option<Vec<Spent>>> = const { RefCell::new(None) };
}

/// Runs `call` and says how much of the processor's time it took, and which operations it ran on this thread, in the order of their first calls: to see all of them,
/// a model is opened with one thread.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use chandelier::ops::{Activation, Linear, profile};
///
/// let weight = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu)?;
/// let linear = Linear::new(&weight, None, Activation::Gelu)?;
/// let x = Tensor::zeros((5, 2), candle_core::DType::F32, &Device::Cpu)?;
/// let (y, whole, spent) = profile(|| linear.forward(&x));
/// assert_eq!(y?.dims(), [5, 3]);
/// assert_eq!((spent[0].operation.as_str(), spent[0].calls), ("linear 2 -> 3 gelu", 1));
/// assert!(spent[0].time <= whole);
/// assert_eq!(spent[0].flop, (2 * 5 * 2 * 3) as f64);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn profile<T>(call: impl FnOnce() -> T) -> (T, Duration, Vec<Spent>) {
    let outer = SPENT.replace(Some(Vec::new()));
    let begun = now();
    let result = call();
    (result, now().saturating_sub(begun), SPENT.replace(outer).unwrap_or_default())
}

/// The processor's time that this thread has taken so far: other programs spoil it less than the clock's.
#[cfg(unix)]
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local value of the type that the call fills in. That it may fail, and leaves zeros then,
    // is of no consequence.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn now() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Runs `call`, and if somebody is profiling notes what it took.
pub(super) fn timed<T>(
    operation: impl FnOnce() -> String,
    flop: impl FnOnce() -> f64,
    call: impl FnOnce() -> T,
) -> T {
    if SPENT.with_borrow(Option::is_none) {
        return call();
    }
    let begun = now();
    let result = call();
    let time = now().saturating_sub(begun);
    let (operation, flop) = (operation(), flop());
    SPENT.with_borrow_mut(|spent| {
        let Some(spent) = spent else { return };
        match spent.iter_mut().find(|known| known.operation == operation) {
            Some(known) => {
                known.calls += 1;
                known.time += time;
                known.flop += flop;
            }
            None => spent.push(Spent { operation, calls: 1, time, flop }),
        }
    });
    result
}

/// The same for an operation without a matrix product.
pub(super) fn timed_simple<T>(operation: &str, call: impl FnOnce() -> T) -> T {
    timed(|| operation.to_owned(), || 0.0, call)
}
