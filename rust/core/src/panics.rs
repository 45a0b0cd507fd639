//! Panics that become values, also where the compiler cannot unwind.

pub(crate) use platform::survive;

#[cfg(not(all(target_family = "wasm", feature = "wasm")))]
mod platform {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// What `work` returns, or None if it panicked.
    pub(crate) fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(work)).ok()
    }
}

#[cfg(all(target_family = "wasm", feature = "wasm"))]
mod platform {
    use std::cell::Cell;
    use std::sync::Once;

    use js_sys::Array;
    use wasm_bindgen::prelude::*;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = Reflect, js_name = apply, catch)]
        fn apply(call: &mut dyn FnMut(), this: &JsValue, arguments: &Array) -> Result<JsValue, JsValue>;
    }

    thread_local! {
        static PANICS: Cell<u32> = const { Cell::new(0) };
    }

    /// What `work` returns, or None if it panicked: a panic traps, and JavaScript can catch that, so `work` is called by way
    /// of it. What it held then is never dropped. Another trap, as when memory is exhausted, is none of this function's.
    pub(crate) fn survive<T>(work: impl FnOnce() -> T) -> Option<T> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICS.set(PANICS.get().wrapping_add(1));
                hook(panic);
            }));
        });
        let before = PANICS.get();
        let (mut work, mut result) = (Some(work), None);
        let mut call = || result = work.take().map(|work| work());
        match apply(&mut call, &JsValue::UNDEFINED, &Array::new()) {
            Err(thrown) if PANICS.get() == before => wasm_bindgen::throw_val(thrown),
            done => done.ok().and(result),
        }
    }
}
