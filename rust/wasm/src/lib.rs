//! `chandelier` for JavaScript: the core's functions over typed arrays, and nothing of its own. What each says is in the
//! types that are generated from here.

mod arguments;
mod door;
mod explanation;
mod maths;
mod model;
mod multivectors;

use wasm_bindgen::prelude::*;

#[cfg(not(target_feature = "simd128"))]
compile_error!(
    "without SIMD it takes several times as long: `make wasm`, or RUSTFLAGS=-Ctarget-feature=+simd128"
);

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.d.ts");
