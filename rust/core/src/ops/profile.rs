//! Where the time of a call goes, operation by operation.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// What one kind of operation took.
#[derive(Debug, Clone, PartialEq)]
pub struct Spent {
    /// The operation, with the sizes that its speed depends on.
    pub operation: String,
    /// How often it ran.
    pub calls: usize,
    /// In all calls together.
    pub time: Duration,
    /// Floating-point operations of its matrix products, in all calls together; 0 where it has none.
    pub flop: f64,
}

thread_local! {
    static SPENT: RefCell<Option<Vec<Spent>>> = const { RefCell::new(None) };
}

/// Runs `call` and says which operations it ran on this thread, in the order of their first calls: to see all of them,
/// a model is opened with one thread.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use chandelier::ops::{Activation, Linear, profile};
///
/// let weight = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu)?;
/// let linear = Linear::new(&weight, None, Activation::Gelu)?;
/// let x = Tensor::zeros((5, 2), candle_core::DType::F32, &Device::Cpu)?;
/// let (y, spent) = profile(|| linear.forward(&x));
/// assert_eq!(y?.dims(), [5, 3]);
/// assert_eq!((spent[0].operation.as_str(), spent[0].calls), ("linear 2 -> 3 gelu", 1));
/// assert_eq!(spent[0].flop, (2 * 5 * 2 * 3) as f64);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn profile<T>(call: impl FnOnce() -> T) -> (T, Vec<Spent>) {
    let outer = SPENT.replace(Some(Vec::new()));
    let result = call();
    (result, SPENT.replace(outer).unwrap_or_default())
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
    let begun = Instant::now();
    let result = call();
    let time = begun.elapsed();
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
