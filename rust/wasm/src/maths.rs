//! Late interaction over multi-vectors, without a model.

use chandelier::{Cpu, Matrices, Pooling};
use wasm_bindgen::prelude::*;

use crate::arguments;
use crate::door::{self, Result};
use crate::multivectors::MultiVectors;

/// The score of every document against the one query: for each query row the best document row, summed. Throws a
/// ShapeError if a matrix has no rows or rows of another length, an ArgumentError if a value is not finite.
#[wasm_bindgen]
pub fn maxsim(query: &MultiVectors, documents: &MultiVectors) -> Result<js_sys::Float32Array> {
    door::enter(|| {
        let count = query.inner.len();
        if count != 1 {
            return Err(door::argument("query", &format!("{count} queries"), "one"));
        }
        let (query, documents) = (Matrices::from(&query.inner), Matrices::from(&documents.inner));
        let scores = chandelier::maxsim_matrix(&query, &documents, Cpu::detect()?, &mut |_| Ok(()))?;
        Ok(js_sys::Float32Array::from(&scores[..]))
    })
}

/// Every document with about one row for `poolFactor` of its rows: the means of those that resemble each other. The first
/// `protectedTokens` rows (1 if not given) are kept as they are. Throws an ArgumentError for a factor below 1.
#[wasm_bindgen(js_name = poolTokens)]
pub fn pool_tokens(
    documents: &MultiVectors,
    #[wasm_bindgen(unchecked_param_type = "number", js_name = poolFactor)] pool_factor: &JsValue,
    #[wasm_bindgen(unchecked_optional_param_type = "number", js_name = protectedTokens)]
    protected_tokens: &JsValue,
) -> Result<MultiVectors> {
    door::enter(|| {
        let factor = arguments::number("poolFactor", pool_factor)?;
        let mut pooling = Pooling { factor, ..Pooling::default() };
        if !protected_tokens.is_undefined() {
            pooling.protected = arguments::whole_number("protectedTokens", protected_tokens, 0)?;
        }
        let documents = documents.inner.view();
        Ok(MultiVectors {
            inner: chandelier::pool_tokens(documents, &pooling, Cpu::detect()?, &mut |_| Ok(()))?,
        })
    })
}
