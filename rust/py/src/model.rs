//! `Model`: a handle on the core's `ColBert`.

use std::path::PathBuf;

use chandelier::checkpoint::Setting;
use chandelier::device::{Device, Dtype};
use chandelier::tokenize::Spans;
use chandelier::{ColBert, EncodeOptions, ExplainedText, Knobs, OpenOptions, Pooling, Prompt, Role};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::arguments::{self, Given};
use crate::arrays::{matrix, offsets_to_numpy};
use crate::detach::{detached, detached_with_progress};
use crate::errors;

/// An open model. Nothing in it changes, so threads may share it.
#[pyclass(frozen, module = "chandelier._core")]
pub(crate) struct Model {
    inner: ColBert,
}

/// Rows and offsets.
type Encoded<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>);

/// One text's tokens: ids, attention mask, keep mask, tokens, offsets.
type TokensTuple<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
    Vec<String>,
    Bound<'py, PyArray2<i64>>,
);

/// A text of an explanation: tokens, their spans, and the characters that the model saw.
type TextTuple = (Vec<String>, Vec<Option<(usize, usize)>>, (usize, usize));

/// Score, similarities, query, document, matches (row, similarity, share), spans (start, end, weight, word weight,
/// query rows).
type ExplanationTuple<'py> = (
    f64,
    Bound<'py, PyArray2<f32>>,
    TextTuple,
    TextTuple,
    Vec<(usize, f32, f64)>,
    Vec<(usize, usize, f64, f64, Vec<usize>)>,
);

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, *, from_bert, device, dtype, query_length, document_length, query_prefix,
                        document_prefix, skiplist_words, do_query_expansion, attend_to_expansion_tokens, threads))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        from_bert: bool,
        device: &Bound<'_, PyAny>,
        dtype: &Bound<'_, PyAny>,
        query_length: Given<'_>,
        document_length: Given<'_>,
        query_prefix: Given<'_>,
        document_prefix: Given<'_>,
        skiplist_words: Given<'_>,
        do_query_expansion: Given<'_>,
        attend_to_expansion_tokens: Given<'_>,
        threads: Given<'_>,
    ) -> PyResult<Self> {
        let device = arguments::string("device", device)?;
        let device = device.parse::<Device>().map_err(|e| errors::to_python(py, &e))?;
        let dtype = arguments::string("dtype", dtype)?;
        let dtype = dtype.parse::<Dtype>().map_err(|e| errors::to_python(py, &e))?;
        let knobs = Knobs {
            query_length: arguments::optional_size("query_length", &query_length)?,
            document_length: arguments::optional_size("document_length", &document_length)?,
            query_prefix: arguments::optional_string("query_prefix", &query_prefix)?,
            document_prefix: arguments::optional_string("document_prefix", &document_prefix)?,
            skiplist_words: arguments::optional_strings("skiplist_words", &skiplist_words)?,
            do_query_expansion: arguments::optional_bool("do_query_expansion", &do_query_expansion)?,
            attend_to_expansion_tokens: arguments::optional_bool(
                "attend_to_expansion_tokens",
                &attend_to_expansion_tokens,
            )?,
        };
        let threads = arguments::optional_size("threads", &threads)?;
        let options = OpenOptions { knobs, device, dtype, threads };
        let open = if from_bert { ColBert::from_bert } else { ColBert::open_with };
        let inner = detached(py, move || open(path, options))?;
        Ok(Self { inner })
    }

    /// The length of a row.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// What the model computes in.
    #[getter]
    fn dtype(&self) -> String {
        self.inner.dtype().to_string()
    }

    /// Threads of a call.
    #[getter]
    fn threads(&self) -> usize {
        self.inner.threads()
    }

    /// Skiplist words that are no tokens of this model.
    #[getter]
    fn unknown_skiplist_words(&self) -> Vec<String> {
        self.inner.tokenizer().unknown_skiplist_words().to_vec()
    }

    /// What was read from the checkpoint, as JSON.
    fn info(&self) -> String {
        let spec = self.inner.spec();
        let dense: Vec<Value> = self
            .inner
            .dense()
            .map(|layer| {
                json!({
                    "in_features": layer.in_features,
                    "out_features": layer.out_features,
                    "bias": layer.bias,
                    "activation": layer.activation.name(),
                    "use_residual": layer.use_residual,
                })
            })
            .collect();
        let tokenizer = self.inner.tokenizer();
        let pooling = spec.pooling.as_ref().map(|spec| {
            json!({
                "pool_factor": spec.pooling.factor,
                "protected_tokens": spec.pooling.protected,
                "normalize": spec.pooling.normalize,
                "roles": roles(&spec.roles),
            })
        });
        json!({
            "format": spec.format.to_string(),
            "architecture": self.inner.architecture(),
            "dim": self.inner.dim(),
            "device": self.inner.device().to_string(),
            "dtype": self.inner.dtype().to_string(),
            "stored_dtypes": self.inner.stored_dtypes(),
            "kernels": self.inner.kernels(),
            "threads": self.inner.threads(),
            "query_length": setting(&spec.query_length),
            "document_length": setting(&spec.document_length),
            "query_prefix": setting(&spec.query_prefix),
            "query_prefix_id": self.inner.tokenizer().prefix_id(Role::Query),
            "document_prefix": setting(&spec.document_prefix),
            "document_prefix_id": self.inner.tokenizer().prefix_id(Role::Document),
            "do_query_expansion": setting(&spec.do_query_expansion),
            "query_expansion_length": setting(&spec.expansion_length),
            "query_expansion_token": tokenizer.expansion_id().and_then(|id| tokenizer.token(id)),
            "query_expansion_token_id": tokenizer.expansion_id(),
            "attend_to_expansion_tokens": setting(&spec.attend_to_expansion_tokens),
            "skiplist_words": setting(&spec.skiplist_words),
            "skiplist_roles": roles(&spec.skiplist_roles),
            "keep_only_token_ids": spec.keep_only_token_ids,
            "do_lower_case": setting(&spec.do_lower_case),
            "prompts": spec.prompts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "query_prompt_name": spec.query_prompt_name,
            "document_prompt_name": spec.document_prompt_name,
            "dense": dense,
            "normalize": spec.normalize,
            "pooling": pooling,
            "warnings": self.inner.warnings(),
        })
        .to_string()
    }

    /// What makes vectors comparable, as 64 hexadecimal digits.
    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || self.inner.fingerprint())
    }

    /// Encodes texts: rows (n, dim) float32 and offsets (texts + 1,) int64. `argument` is the name to blame,
    /// `pooling` the factor and how many rows are protected from it.
    #[pyo3(signature = (texts, *, argument, is_query, prompt, prompt_name, pooling, batch_tokens, on_progress))]
    #[allow(clippy::too_many_arguments)]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        argument: &str,
        is_query: bool,
        prompt: Given<'py>,
        prompt_name: Given<'py>,
        pooling: (usize, usize),
        batch_tokens: Given<'py>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Encoded<'py>> {
        let batch_tokens = arguments::optional_size("batch_tokens", &batch_tokens)?;
        let prompt = GivenPrompt::new(&prompt, &prompt_name)?;
        let prompt = prompt.get(py)?;
        let texts = arguments::texts(argument, texts)?;
        let (factor, protected) = pooling;
        let pooling = Pooling { factor: factor as f64, protected, normalize: false };
        let (data, offsets, dim) = detached_with_progress(py, on_progress.as_ref(), |observer| {
            let options =
                EncodeOptions { prompt, batch_tokens, pooling: Some(pooling), observer: Some(observer) };
            let (data, offsets, dim) = self.inner.encode(&texts, role(is_query), options)?.into_parts();
            Ok((data, offsets_to_numpy(offsets)?, dim))
        })?;
        let rows = data.len() / dim;
        Ok((matrix(py, (rows, dim), data)?, offsets.into_pyarray(py)))
    }

    /// The tokens of texts, with offsets in characters of each text as it was given.
    #[pyo3(signature = (texts, *, is_query, prompt, prompt_name))]
    fn tokenize<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        is_query: bool,
        prompt: Given<'py>,
        prompt_name: Given<'py>,
    ) -> PyResult<Vec<TokensTuple<'py>>> {
        let prompt = GivenPrompt::new(&prompt, &prompt_name)?;
        let prompt = prompt.get(py)?;
        let texts = arguments::texts("texts", texts)?;
        let tokenizer = self.inner.tokenizer();
        let all = detached_with_progress(py, None, |observer| {
            self.inner.tokenize(&texts, role(is_query), prompt, observer)
        })?;
        let convert = |(tokens, offsets): (chandelier::Tokens, Spans)| {
            let names = tokens.ids.iter().map(|&id| tokenizer.token(id).unwrap_or_default()).collect();
            let attention: Vec<bool> = (0..tokens.ids.len()).map(|index| index < tokens.attended).collect();
            let ids: Vec<i64> = tokens.ids.into_iter().map(i64::from).collect();
            let spans = Array2::from_shape_fn((offsets.tokens.len(), 2), |(row, side)| {
                let (start, end) = offsets.tokens[row];
                [start, end][side] as i64
            });
            (
                ids.into_pyarray(py),
                attention.into_pyarray(py),
                tokens.keep.into_pyarray(py),
                names,
                spans.into_pyarray(py),
            )
        };
        Ok(all.into_iter().map(convert).collect())
    }

    /// For each document whether it is read whole.
    #[pyo3(signature = (texts, *, prompt, prompt_name, on_progress))]
    fn reads_whole<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        prompt: Given<'py>,
        prompt_name: Given<'py>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<bool>> {
        let prompt = GivenPrompt::new(&prompt, &prompt_name)?;
        let prompt = prompt.get(py)?;
        let texts = arguments::texts("texts", texts)?;
        detached_with_progress(py, on_progress.as_ref(), |observer| {
            self.inner.reads_whole(&texts, prompt, observer)
        })
    }

    /// For each document the ranges of its characters that are read whole.
    #[pyo3(signature = (texts, *, overlap, prompt, prompt_name, on_progress))]
    fn windows<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        overlap: Given<'py>,
        prompt: Given<'py>,
        prompt_name: Given<'py>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Vec<Vec<(usize, usize)>>> {
        let overlap = arguments::optional_count("overlap", &overlap)?;
        let prompt = GivenPrompt::new(&prompt, &prompt_name)?;
        let prompt = prompt.get(py)?;
        let texts = arguments::texts("texts", texts)?;
        detached_with_progress(py, on_progress.as_ref(), |observer| {
            self.inner.windows(&texts, prompt, overlap, observer)
        })
    }

    /// Why a document matches a query: score, similarities, the two texts, matches and weighted spans.
    #[pyo3(signature = (query, document, *, window, query_prompt_name, document_prompt_name))]
    #[allow(clippy::too_many_arguments)]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        document: &Bound<'py, PyAny>,
        window: Option<(usize, usize)>,
        query_prompt_name: Given<'py>,
        document_prompt_name: Given<'py>,
    ) -> PyResult<ExplanationTuple<'py>> {
        let query = arguments::string("query", query)?;
        let document = arguments::string("document", document)?;
        let query_prompt = GivenPrompt::named("query_prompt_name", &query_prompt_name)?;
        let document_prompt = GivenPrompt::named("document_prompt_name", &document_prompt_name)?;
        let (query_prompt, document_prompt) = (query_prompt.get(py)?, document_prompt.get(py)?);
        let found = detached_with_progress(py, None, |observer| {
            self.inner.explain((&query, query_prompt), (&document, document_prompt), window, observer)
        })?;
        let shape = (found.query.tokens.len(), found.document.tokens.len());
        let text = |text: ExplainedText| (text.tokens, text.spans, text.seen);
        let matches = found.explanation.matches.iter().map(|m| (m.row, m.similarity, m.share)).collect();
        let spans = found
            .spans
            .into_iter()
            .map(|s| (s.start, s.end, s.weight, s.word_weight, s.query_rows))
            .collect();
        let similarities = matrix(py, shape, found.explanation.similarities)?;
        Ok((found.explanation.score, similarities, text(found.query), text(found.document), matches, spans))
    }
}

/// A prompt as Python gave it.
struct GivenPrompt {
    text: Option<String>,
    name: Option<String>,
}

impl GivenPrompt {
    fn new(text: &Given<'_>, name: &Given<'_>) -> PyResult<Self> {
        let text = arguments::optional_string("prompt", text)?;
        let name = arguments::optional_string("prompt_name", name)?;
        Ok(Self { text, name })
    }

    fn named(argument: &str, name: &Given<'_>) -> PyResult<Self> {
        Ok(Self { text: None, name: arguments::optional_string(argument, name)? })
    }

    fn get(&self, py: Python<'_>) -> PyResult<Prompt<'_>> {
        match (&self.text, &self.name) {
            (Some(_), Some(_)) => {
                let message = "prompt: got both prompt and prompt_name, wanted one of them";
                Err(errors::argument(py, "prompt", message))
            }
            (Some(text), None) => Ok(Prompt::Text(text)),
            (None, Some(name)) => Ok(Prompt::Named(name)),
            (None, None) => Ok(Prompt::Default),
        }
    }
}

fn role(is_query: bool) -> Role {
    if is_query { Role::Query } else { Role::Document }
}

fn roles(roles: &[Role]) -> Vec<&'static str> {
    roles.iter().map(|role| if *role == Role::Query { "query" } else { "document" }).collect()
}

fn setting<T: Clone + Into<Value>>(setting: &Setting<T>) -> Value {
    json!({ "value": setting.value.clone().into(), "origin": setting.origin.to_string() })
}
