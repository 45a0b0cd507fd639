//! The one door between JavaScript and the core: whatever ends a call, an `Error` of its kind comes out, and the module goes
//! on.

use std::cell::RefCell;
use std::sync::Once;

use js_sys::{Array, RangeError};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = Reflect, js_name = apply, catch)]
    fn apply(
        call: &mut dyn FnMut(),
        this: &JsValue,
        arguments: &Array,
    ) -> std::result::Result<JsValue, JsValue>;
}

/// What is thrown.
pub struct Thrown(JsValue);

/// What every exported function returns.
pub(crate) type Result<T> = std::result::Result<T, Thrown>;

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs an exported function, all of it. A trap, or what a getter of the caller's throws, leaves the functions that it passes
/// through without cleaning up: only where it is caught on the way, in JavaScript, are the stack and what is borrowed
/// given back.
pub(crate) fn enter<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| PANIC.set(panic.to_string()))));
    // What the core got over says nothing about what comes.
    PANIC.take();
    let (mut work, mut result) = (Some(work), None);
    let mut call = || result = work.take().map(|work| work());
    let done = apply(&mut call, &JsValue::UNDEFINED, &Array::new());
    match (done, result) {
        (Ok(_), Some(result)) => result,
        (Err(thrown), _) if !is_trap(&thrown) => Err(Thrown(thrown)),
        _ => {
            let panic = PANIC.take();
            Err(if panic.is_empty() { exhausted() } else { internal(&panic) })
        }
    }
}

/// Whether it is the machine's own, and not a caller's.
fn is_trap(thrown: &JsValue) -> bool {
    thrown.is_instance_of::<js_sys::WebAssembly::RuntimeError>() || thrown.is_instance_of::<RangeError>()
}

impl From<chandelier::Error> for Thrown {
    fn from(error: chandelier::Error) -> Self {
        use chandelier::Error::{Argument, Device, Io, Missing, Model, Shape};
        let name = match error {
            Missing { .. } => "MissingError",
            Io { .. } => "IoError",
            Model { .. } => "ModelError",
            Argument { .. } => "ArgumentError",
            Shape { .. } => "ShapeError",
            Device { .. } => "DeviceError",
            _ => return internal(&error.to_string()),
        };
        named(name, &error.to_string())
    }
}

impl From<Thrown> for JsValue {
    fn from(thrown: Thrown) -> Self {
        thrown.0
    }
}

/// An argument outside what the function takes.
pub(crate) fn argument(name: &str, got: &str, wanted: &str) -> Thrown {
    named("ArgumentError", &format!("{name}: got {got}, wanted {wanted}"))
}

fn exhausted() -> Thrown {
    let problem = "WebAssembly's memory, which ends at 4 GB, or its stack is exhausted";
    let way_out = "free what is not needed, or take fewer or shorter texts, or a smaller model";
    named("MemoryError", &format!("{problem}; {way_out}"))
}

fn internal(problem: &str) -> Thrown {
    named("ChandelierError", &format!("{problem}; this is a defect of chandelier, please report it"))
}

fn named(name: &str, message: &str) -> Thrown {
    let error = js_sys::Error::new(message);
    error.set_name(name);
    Thrown(error.into())
}
