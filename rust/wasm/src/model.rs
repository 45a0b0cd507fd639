//! `ColBERT`: a handle on the core's model.

use chandelier::device::Dtype;
use chandelier::{ColBert, EncodeOptions, Files, Knobs, OpenOptions, Pooling, Prompt, Role};
use js_sys::{Array, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::*;

use crate::arguments::{self, boolean, string, strings, whole_number};
use crate::door::{self, Result};
use crate::explanation::{self, Units, object};
use crate::multivectors::MultiVectors;

/// A model, which lies in WebAssembly's memory until `free()` is called.
#[wasm_bindgen(js_name = ColBERT)]
pub struct Model {
    inner: ColBert,
}

#[wasm_bindgen(js_class = ColBERT)]
impl Model {
    /// Opens a checkpoint from the files of its folder, by their paths in it: `"config.json"`,
    /// `"1_Dense/model.safetensors"`. PyLate's, Stanford's and sentence-transformers 6's are read. Throws a MissingError or
    /// a ModelError that names the file and key at fault, or an ArgumentError that names the option.
    #[wasm_bindgen(constructor)]
    pub fn new(
        #[wasm_bindgen(unchecked_param_type = "Record<string, Uint8Array>")] files: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "Options")] options: &JsValue,
    ) -> Result<Self> {
        door::enter(|| {
            let (options, from_bert) = open_options(options)?;
            let mut folder = Files::default();
            let wanted = "an object of paths and Uint8Arrays";
            if files.is_undefined() {
                return Err(door::argument("files", "undefined", wanted));
            }
            for (path, content) in arguments::entries("files", files, wanted)? {
                folder.insert(&path, arguments::bytes(&format!("files[{path:?}]"), &content)?)?;
            }
            let open = if from_bert { ColBert::from_bert_files } else { ColBert::open_files };
            Ok(Self { inner: open(folder, options)? })
        })
    }

    /// The length of a row.
    #[wasm_bindgen(getter)]
    pub fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// Tokens of a query.
    #[wasm_bindgen(getter, js_name = queryLength)]
    pub fn query_length(&self) -> usize {
        self.inner.spec().query_length.value
    }

    /// Most tokens of a document.
    #[wasm_bindgen(getter, js_name = documentLength)]
    pub fn document_length(&self) -> usize {
        self.inner.spec().document_length.value
    }

    /// What the layers compute in.
    #[wasm_bindgen(getter, unchecked_return_type = "Dtype")]
    pub fn dtype(&self) -> String {
        self.inner.dtype().to_string()
    }

    /// What makes vectors comparable, as 64 hexadecimal digits: that of the same checkpoint in Python.
    #[wasm_bindgen(getter)]
    pub fn fingerprint(&self) -> Result<String> {
        door::enter(|| Ok(self.inner.fingerprint()?))
    }

    /// One matrix (tokens, dim) of unit rows a query.
    #[wasm_bindgen(js_name = encodeQueries)]
    pub fn encode_queries(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string[]")] texts: &JsValue,
    ) -> Result<MultiVectors> {
        door::enter(|| self.encode(texts, Role::Query, None))
    }

    /// One matrix (tokens, dim) of unit rows a document, pooled if that is asked for.
    #[wasm_bindgen(js_name = encodeDocuments)]
    pub fn encode_documents(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string[]")] texts: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "Pooling")] options: &JsValue,
    ) -> Result<MultiVectors> {
        door::enter(|| self.encode(texts, Role::Document, Some(pooling_options(options)?)))
    }

    /// The tokens of queries, expansion included.
    #[wasm_bindgen(js_name = tokenizeQueries, unchecked_return_type = "Tokens[]")]
    pub fn tokenize_queries(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string[]")] texts: &JsValue,
    ) -> Result<Array> {
        door::enter(|| self.tokenize(texts, Role::Query))
    }

    /// The tokens of documents.
    #[wasm_bindgen(js_name = tokenizeDocuments, unchecked_return_type = "Tokens[]")]
    pub fn tokenize_documents(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string[]")] texts: &JsValue,
    ) -> Result<Array> {
        door::enter(|| self.tokenize(texts, Role::Document))
    }

    /// Why a document has its score against a query. Throws a ModelError if the checkpoint pools rows, and a ShapeError if
    /// a text has no row.
    #[wasm_bindgen(unchecked_return_type = "Explanation")]
    pub fn explain(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] query: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "string")] document: &JsValue,
    ) -> Result<JsValue> {
        door::enter(|| {
            let (query, document) = (string("query", query)?, string("document", document)?);
            let sides = [&query[..], &document[..]].map(|text| (text, Prompt::Default));
            let found = self.inner.explain(sides[0], sides[1], None, &mut |_| Ok(()))?;
            Ok(explanation::to_javascript(found, &query, &document))
        })
    }

    fn encode(&self, texts: &JsValue, role: Role, pooling: Option<Pooling>) -> Result<MultiVectors> {
        let texts = strings("texts", texts)?;
        let options = EncodeOptions { pooling, ..EncodeOptions::default() };
        Ok(MultiVectors { inner: self.inner.encode(&texts, role, options)? })
    }

    fn tokenize(&self, texts: &JsValue, role: Role) -> Result<Array> {
        let texts = strings("texts", texts)?;
        let all = self.inner.tokenize(&texts, role, Prompt::Default, &mut |_| Ok(()))?;
        let spell = |&id: &u32| self.inner.tokenizer().token(id).unwrap_or_default();
        let tokens = all.into_iter().zip(&texts).map(|((tokens, spans), text)| {
            let attention: Vec<u8> = (0..tokens.ids.len()).map(|i| u8::from(i < tokens.attended)).collect();
            let keep: Vec<u8> = tokens.keep.iter().copied().map(u8::from).collect();
            object([
                ("tokens", explanation::strings(tokens.ids.iter().map(spell))),
                ("ids", Uint32Array::from(&tokens.ids[..]).into()),
                ("attentionMask", Uint8Array::from(&attention[..]).into()),
                ("keep", Uint8Array::from(&keep[..]).into()),
                ("seen", Units::of(text).place(spans.seen)),
            ])
        });
        Ok(tokens.collect())
    }
}

const OPTIONS: [&str; 9] = [
    "dtype",
    "queryLength",
    "documentLength",
    "queryPrefix",
    "documentPrefix",
    "skiplistWords",
    "doQueryExpansion",
    "attendToExpansionTokens",
    "fromBert",
];

/// How to open a model, and whether it is one without a projection.
fn open_options(value: &JsValue) -> Result<(OpenOptions, bool)> {
    let mut knobs = Knobs::default();
    let (mut dtype, mut from_bert) = (Dtype::Float32, false);
    arguments::options(value, &OPTIONS, |name, value| {
        match name {
            "dtype" => dtype = precision(value)?,
            "queryLength" => knobs.query_length = Some(whole_number(name, value, 1)?),
            "documentLength" => knobs.document_length = Some(whole_number(name, value, 1)?),
            "queryPrefix" => knobs.query_prefix = Some(string(name, value)?),
            "documentPrefix" => knobs.document_prefix = Some(string(name, value)?),
            "skiplistWords" => knobs.skiplist_words = Some(strings(name, value)?),
            "doQueryExpansion" => knobs.do_query_expansion = Some(boolean(name, value)?),
            "attendToExpansionTokens" => knobs.attend_to_expansion_tokens = Some(boolean(name, value)?),
            _ => from_bert = boolean(name, value)?,
        }
        Ok(())
    })?;
    Ok((OpenOptions { knobs, dtype, threads: Some(1), ..OpenOptions::default() }, from_bert))
}

fn pooling_options(value: &JsValue) -> Result<Pooling> {
    let mut pooling = Pooling::default();
    arguments::options(value, &["poolFactor", "protectedTokens"], |name, value| {
        match name {
            "poolFactor" => pooling.factor = arguments::number(name, value)?,
            _ => pooling.protected = whole_number(name, value, 0)?,
        }
        Ok(())
    })?;
    Ok(pooling)
}

fn precision(value: &JsValue) -> Result<Dtype> {
    let name = string("dtype", value)?;
    [Dtype::Float32, Dtype::Int8]
        .into_iter()
        .find(|dtype| dtype.to_string() == name)
        .ok_or_else(|| door::argument("dtype", &format!("{name:?}"), "\"float32\" or \"int8\""))
}
