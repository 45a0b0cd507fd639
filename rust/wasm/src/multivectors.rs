//! `MultiVectors`: one matrix a text, end to end.

use js_sys::{Float32Array, Uint32Array};
use wasm_bindgen::prelude::*;

use crate::arguments;
use crate::door::{self, Result};

/// Matrices (tokens, dim) of several texts, end to end: the rows of text i are `offsets[i]` to `offsets[i + 1]`. They lie
/// in WebAssembly's memory until `free()` is called.
#[wasm_bindgen]
pub struct MultiVectors {
    pub(crate) inner: chandelier::MultiVectors,
}

#[wasm_bindgen]
impl MultiVectors {
    /// Joins rows and offsets, which are copied. Throws a ShapeError if they do not fit together.
    #[wasm_bindgen(js_name = fromParts)]
    pub fn from_parts(
        #[wasm_bindgen(unchecked_param_type = "Float32Array")] data: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Uint32Array")] offsets: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "number")] dim: &JsValue,
    ) -> Result<Self> {
        door::enter(|| {
            let (data, offsets) = (arguments::floats("data", data)?, arguments::offsets("offsets", offsets)?);
            let dim = arguments::whole_number("dim", dim, 1)?;
            Ok(Self { inner: chandelier::MultiVectors::new(data, offsets, dim)? })
        })
    }

    /// The length of a row.
    #[wasm_bindgen(getter)]
    pub fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// The number of texts.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.inner.len()
    }

    /// All rows, one after the other: a copy.
    #[wasm_bindgen(getter)]
    pub fn data(&self) -> Result<Float32Array> {
        door::enter(|| Ok(Float32Array::from(self.inner.data())))
    }

    /// Where each text's rows begin, and at the end how many rows there are: a copy.
    #[wasm_bindgen(getter)]
    pub fn offsets(&self) -> Result<Uint32Array> {
        door::enter(|| {
            let offsets: Vec<u32> = self.inner.offsets().iter().map(|&offset| offset as u32).collect();
            Ok(Uint32Array::from(&offsets[..]))
        })
    }
}
