//! Panics that become values, also where the compiler cannot unwind.

/// What `work` returns, or None if it panicked: [`std::panic::catch_unwind`] with one word more for WebAssembly, where a
/// panic traps. JavaScript can catch that, so `work` is called by way of it; what it held then is never dropped.
pub fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
    platform::survive(work)
}

#[cfg(not(all(target_family = "wasm", feature = "wasm")))]
mod platform {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    pub(super) fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(work)).ok()
    }
}

#[cfg(all(target_family = "wasm", feature = "wasm"))]
mod platform {
    use js_sys::Array;
    use wasm_bindgen::prelude::*;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = Reflect, js_name = apply, catch)]
        fn apply(call: &mut dyn FnMut(), this: &JsValue, arguments: &Array) -> Result<JsValue, JsValue>;
    }

    pub(super) fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
        let (mut work, mut result) = (Some(work), None);
        let mut call = || result = work.take().map(|work| work());
        let done = apply(&mut call, &JsValue::UNDEFINED, &Array::new());
        done.ok().and(result)
    }
}
