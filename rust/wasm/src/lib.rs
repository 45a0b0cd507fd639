//! `chandelier` for JavaScript: the core's functions over typed arrays, and nothing of its own. What each says is in the
//! types that are generated from here.

mod arguments;
mod door;
mod explanation;
mod maths;
mod model;
mod multivectors;

use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.d.ts");

#[wasm_bindgen(start)]
fn start() {
    door::remember_panics();
}
