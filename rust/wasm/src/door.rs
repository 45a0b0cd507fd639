//! The one door between JavaScript and the core: a core error becomes an `Error` of its kind, and so does a panic.

use std::cell::RefCell;

use chandelier::Error;
use wasm_bindgen::prelude::*;

/// What every exported function returns.
pub(crate) type Result<T> = std::result::Result<T, JsValue>;

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what the next panic says.
pub(crate) fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| PANIC.replace(panic.to_string()).clear()));
}

/// Runs what the core does.
pub(crate) fn enter<T>(work: impl FnOnce() -> chandelier::Result<T>) -> Result<T> {
    match chandelier::survive(work) {
        Some(done) => done.map_err(|error| to_javascript(&error)),
        None => Err(internal(&PANIC.take())),
    }
}

/// The JavaScript error for a core error.
pub(crate) fn to_javascript(error: &Error) -> JsValue {
    let name = match error {
        Error::Missing { .. } => "MissingError",
        Error::Io { .. } => "IoError",
        Error::Model { .. } => "ModelError",
        Error::Argument { .. } => "ArgumentError",
        Error::Shape { .. } => "ShapeError",
        Error::Device { .. } => "DeviceError",
        _ => return internal(&error.to_string()),
    };
    named(name, &error.to_string())
}

/// An argument outside what the function takes.
pub(crate) fn argument(name: &str, got: &str, wanted: &str) -> JsValue {
    named("ArgumentError", &format!("{name}: got {got}, wanted {wanted}"))
}

fn internal(problem: &str) -> JsValue {
    let problem =
        if problem.is_empty() { "a trap, as when memory or the stack is exhausted" } else { problem };
    named("ChandelierError", &format!("{problem}; this is a defect of chandelier, please report it"))
}

fn named(name: &str, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    error.set_name(name);
    error.into()
}
