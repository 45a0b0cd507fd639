//! [`ColBert`]: the pipeline wired together. Opened once, then `&self` everywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Tensor};

use crate::batch::{self, Batch};
use crate::checkpoint::{self, Format, Knobs, Provenance, Spec, TokenizerFiles};
use crate::device::{Compute, Device, Dtype};
use crate::encoder::{self, Encoder};
use crate::error::{Error, Result};
use crate::files::{Files, Place};
use crate::kernels::{self, Cpu};
use crate::maxsim::top_k;
use crate::memory;
use crate::multivectors::MultiVectors;
use crate::pool::{Pooling, pool_tokens};
use crate::project::{self, DenseShape, Projection};
use crate::queue::{self, GoOn, Observer};
use crate::team;
use crate::threads::default_threads;
use crate::tokenize::{Role, Spans, TextTokenizer, Tokens};

/// Tokens of a micro-batch unless the caller says otherwise: its activations stay in a core's cache.
pub const BATCH_TOKENS: usize = 256;

/// The most tokens of a micro-batch: more only make it slower, and deaf to an observer for seconds.
pub const MAX_BATCH_TOKENS: usize = 4096;

/// Tokens of a batch for each thread that shares it: with fewer, threads wait for each other more than they compute.
const TOKENS_OF_A_THREAD: usize = 4;

/// A ColBERT model.
pub struct ColBert {
    spec: Spec,
    tokenizer: TextTokenizer,
    encoder: Box<dyn Encoder>,
    projection: Projection,
    provenance: Vec<Provenance>,
    device: Device,
    dtype: Dtype,
    kernels: Option<&'static str>,
    threads: usize,
    fingerprint: OnceLock<String>,
}

/// How a model is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Settings that overrule the checkpoint's.
    pub knobs: Knobs,
    /// Where to compute.
    pub device: Device,
    /// What to compute in.
    pub dtype: Dtype,
    /// Threads of a call; `None` means as many as [`default_threads`] says.
    pub threads: Option<usize>,
}

/// What is put before every text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// The model's default prompt, if it has one.
    #[default]
    Default,
    /// This text.
    Text(&'a str),
    /// The checkpoint's prompt of this name.
    Named(&'a str),
}

/// How a call to encode is made.
#[derive(Default)]
pub struct EncodeOptions<'a> {
    /// What is put before every text.
    pub prompt: Prompt<'a>,
    /// Tokens of a micro-batch; `None` means [`BATCH_TOKENS`] (on a GPU [`MAX_BATCH_TOKENS`]), more than
    /// [`MAX_BATCH_TOKENS`] means that.
    pub batch_tokens: Option<usize>,
    /// How the rows of documents are pooled, besides what the checkpoint does by itself; queries never are.
    pub pooling: Option<Pooling>,
    /// Called about every 50 ms with the number of texts done; an error, [`Error::Interrupted`] say, ends the call.
    pub observer: Option<Observer<'a>>,
}

impl ColBert {
    /// Opens a checkpoint folder: PyLate's, Stanford's, or that of sentence-transformers 6.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::Model`] name the file and key at fault, [`Error::Argument`] the knob.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, OpenOptions::default())
    }

    /// The same, with settings.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self> {
        Self::build(&Place::on_disk(path.as_ref()), checkpoint::Projection::Required, options)
    }

    /// Opens a model by its hub name; what the cache lacks is fetched. [`crate::hub::snapshot`] also tells the commit.
    ///
    /// ```no_run
    /// use chandelier::{ColBert, OpenOptions, hub::HubOptions};
    ///
    /// let model = ColBert::from_hub("lightonai/colbertv2.0", &HubOptions::default(), OpenOptions::default())?;
    /// # Ok::<(), chandelier::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::Hub`].
    #[cfg(feature = "hub")]
    pub fn from_hub(name: &str, hub: &crate::hub::HubOptions, options: OpenOptions) -> Result<Self> {
        Self::open_with(crate::hub::snapshot(name, hub)?.folder, options)
    }

    /// Opens any BERT-like model without a projection: late interaction over its bare hidden states. Nothing says
    /// how such a model wants to be used, so there is no prefix and no query expansion unless asked for, and
    /// documents are as long as the transformer's `max_seq_length`.
    ///
    /// # Errors
    /// As [`Self::open`]; a checkpoint that has a Dense is refused.
    pub fn from_bert(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self> {
        Self::build(&Place::on_disk(path.as_ref()), checkpoint::Projection::Absent, options)
    }

    /// Opens a checkpoint whose files are in memory, where [`Self::open_with`] reads them from a folder. They are dropped
    /// when it is open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_files(files: Files, options: OpenOptions) -> Result<Self> {
        Self::build_in_memory(files, checkpoint::Projection::Required, options)
    }

    /// The same as [`Self::from_bert`] opens a folder.
    ///
    /// # Errors
    /// As [`Self::from_bert`].
    pub fn from_bert_files(files: Files, options: OpenOptions) -> Result<Self> {
        Self::build_in_memory(files, checkpoint::Projection::Absent, options)
    }

    fn build_in_memory(
        files: Files,
        projection: checkpoint::Projection,
        options: OpenOptions,
    ) -> Result<Self> {
        let files = Arc::new(files);
        let model = Self::build(&Place::in_memory(&files), projection, options)?;
        // Now or never: it hangs on the files.
        model.fingerprint()?;
        Ok(model)
    }

    fn build(root: &Place, projection: checkpoint::Projection, options: OpenOptions) -> Result<Self> {
        let threads = options.threads.map_or_else(default_threads, Ok)?;
        if threads == 0 {
            return Err(Error::argument("threads", 0, "at least 1, or none for all cores"));
        }
        memory::keep_freed();
        let dtype = options.dtype.resolve(options.device)?;
        let compute = Compute::open(options.device, dtype, threads)?;
        // What names instructions that do not exist is told of here, as the argument that it is.
        let kernels = compute.kernels()?;
        let spec = Spec::read(root, projection, &options.knobs)?;
        // The tokenizer takes about as long to read as the weights, so both are read at once, if there may be two threads.
        let (parts, files) = std::thread::scope(|scope| {
            let open = || TokenizerFiles::open(&spec.transformer);
            let helper = (threads > 1).then(|| std::thread::Builder::new().spawn_scoped(scope, open).ok());
            let parts = Parts::load(&spec, &compute);
            let files = helper.flatten().map_or_else(open, |helper| {
                helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            (parts, files)
        });
        let Parts { encoder, projection, provenance } = parts?;
        let tokenizer = TextTokenizer::new(&spec, files?, encoder.positions(), encoder.vocabulary())?;
        Ok(Self {
            spec,
            tokenizer,
            encoder,
            projection,
            provenance,
            device: options.device,
            dtype,
            kernels,
            threads,
            fingerprint: OnceLock::new(),
        })
    }

    /// What was read from the checkpoint, and where each setting came from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The tokenizer with the model's settings.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The architecture and what it computes with, in one line.
    pub fn architecture(&self) -> String {
        self.encoder.describe()
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.projection.dim()
    }

    /// The Dense layers, in order.
    pub fn dense(&self) -> impl Iterator<Item = DenseShape> + '_ {
        self.projection.shapes()
    }

    /// The types in which the checkpoint stores its weights, as `F32` or `BF16 F32`.
    pub fn stored_dtypes(&self) -> String {
        let all: BTreeSet<&str> =
            self.provenance.iter().flat_map(|p| &p.dtypes).map(String::as_str).collect();
        all.into_iter().collect::<Vec<_>>().join(" ")
    }

    /// What a user of the checkpoint should know, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let by_itself = [&self.spec.query_prompt_name, &self.spec.document_prompt_name].map(Option::as_deref);
        let prompts = self.spec.prompts.iter().filter(|(_, text)| !text.is_empty()).map(|(name, _)| name);
        let unused: Vec<_> = prompts.filter(|name| !by_itself.contains(&Some(name.as_str()))).collect();
        if !unused.is_empty() {
            warnings.push(format!(
                "has prompts {unused:?} that are not applied by themselves; pass prompt_name (--prompt-name), to \
                 rerank query_prompt_name and document_prompt_name"
            ));
        }
        let unknown = self.tokenizer.unknown_skiplist_words();
        if !unknown.is_empty() {
            warnings
                .push(format!("skiplist words that are no tokens of this model skip nothing: {unknown:?}"));
        }
        if self.spec.mean_similarity {
            let problem =
                "asks for the mean over query rows (meanmaxsim); scores here are sums, in the same order";
            warnings.push(problem.to_owned());
        }
        if !self.spec.normalize {
            warnings.push("its rows do not have length 1: it has no Normalize module".to_owned());
        }
        warnings
    }

    /// Where the model computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What the model computes in: never [`Dtype::Auto`], but what that was resolved to.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The instructions that the layers are multiplied with, as `avx512vnni`; None where candle's operations compute.
    pub fn kernels(&self) -> Option<&'static str> {
        self.kernels
    }

    /// Threads of a call.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What makes vectors comparable: the weights of backbone and projection, the normalisation and the prefixes,
    /// hashed by BLAKE3. The files are read again when it is first asked for.
    ///
    /// # Errors
    /// [`Error::Model`] if a weights file is no longer the one that was opened.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        // Stored indexes hang on every byte of this: a change means a new number in front.
        let mut hasher = blake3::Hasher::new();
        let mut tell = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        tell("chandelier fingerprint 1, rows of length 1");
        tell(&self.encoder.describe());
        tell(&self.spec.query_prefix.value);
        tell(&self.spec.document_prefix.value);
        for dense in self.dense() {
            tell(&format!(
                "dense activation={} use_residual={}",
                dense.activation.name(),
                dense.use_residual
            ));
        }
        // What only some formats have is told only where it is not as in all others.
        if !self.spec.normalize {
            tell("rows of any length");
        }
        if let Some(pooling) = &self.spec.pooling {
            tell(&format!("{pooling:?}"));
        }
        for name in [&self.spec.query_prompt_name, &self.spec.document_prompt_name].into_iter().flatten() {
            tell(&format!("prompt {}", self.prompt_named(name)?));
        }
        for source in &self.provenance {
            source.hash(&mut hasher)?;
        }
        Ok(self.fingerprint.get_or_init(|| hasher.finalize().to_hex().to_string()).clone())
    }

    /// The documents in the order of their MaxSim with a query, best first, ties in input order: index and score of
    /// the `k` best, or of all.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`Error::Shape`] if a skiplist leaves a document without a row.
    pub fn rerank<T: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[T],
        k: Option<usize>,
    ) -> Result<Vec<(usize, f32)>> {
        let query = self.encode_queries(&[query])?;
        let documents = self.encode_documents(documents)?;
        let k = k.unwrap_or(documents.len());
        top_k(query.get(0), &(&documents).into(), k, self.cpu()?, &mut |_| Ok(()))
    }

    /// One matrix a query, in input order.
    ///
    /// # Errors
    /// See [`Self::encode`].
    pub fn encode_queries<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<MultiVectors> {
        self.encode(texts, Role::Query, EncodeOptions::default())
    }

    /// One matrix a document, in input order.
    ///
    /// # Errors
    /// See [`Self::encode`].
    pub fn encode_documents<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<MultiVectors> {
        self.encode(texts, Role::Document, EncodeOptions::default())
    }

    /// One matrix of unit rows `(tokens, dim)` a text, in input order. A text gives the same rows alone, in any
    /// company, in any order and from any thread, on the CPU to the last bit.
    ///
    /// # Errors
    /// [`Error::Argument`] for a prompt or batch size that cannot be, [`Error::Model`] for weights that give rows
    /// that are not finite, what [`pool_tokens`] says, and whatever the observer returns.
    pub fn encode<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        role: Role,
        options: EncodeOptions,
    ) -> Result<MultiVectors> {
        let prompt = self.prompt(options.prompt, role)?;
        // A GPU wants large batches, one after the other; a core's cache wants small ones.
        let default = if self.device == Device::Cpu { BATCH_TOKENS } else { MAX_BATCH_TOKENS };
        let batch_tokens = options.batch_tokens.unwrap_or(default);
        if batch_tokens == 0 {
            return Err(Error::argument("batch_tokens", 0, "at least 1"));
        }
        let mut ignore = |_| Ok(());
        let observer = options.observer.unwrap_or(&mut ignore);
        // No text is done yet: what is asked is whether to go on.
        let mut ask = |_| observer(0);
        let tokens =
            self.for_texts(texts, |_, text, _| self.tokenizer.tokenize(text, prompt, role), &mut ask)?;
        let mut vectors = self.encode_tokens(&tokens, batch_tokens, observer)?;
        let own = self.spec.pooling.as_ref().filter(|spec| spec.roles.contains(&role));
        let asked = options.pooling.filter(|_| role == Role::Document);
        for pooling in own.map(|spec| spec.pooling).into_iter().chain(asked) {
            // All texts are encoded: what is asked now is whether to go on, and no bar goes back.
            let done = vectors.len();
            vectors = pool_tokens(vectors.view(), &pooling, self.cpu()?, &mut |_| observer(done))?;
        }
        Ok(vectors)
    }

    fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu { threads: self.threads, simd: kernels::selected()?.without_tiles() })
    }

    /// The text of a prompt, for queries or for documents.
    ///
    /// # Errors
    /// [`Error::Argument`] for a name that the checkpoint does not have.
    pub fn prompt<'a>(&'a self, prompt: Prompt<'a>, role: Role) -> Result<&'a str> {
        let own = match role {
            Role::Query => &self.spec.query_prompt_name,
            Role::Document => &self.spec.document_prompt_name,
        };
        match (prompt, own) {
            (Prompt::Text(text), _) => Ok(text),
            (Prompt::Named(name), _) => self.prompt_named(name),
            (Prompt::Default, Some(name)) => self.prompt_named(name),
            (Prompt::Default, None) => Ok(""),
        }
    }

    fn prompt_named(&self, name: &str) -> Result<&str> {
        let found = self.spec.prompts.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.as_str()).ok_or_else(|| {
            let names: Vec<_> = self.spec.prompts.iter().map(|(name, _)| name).collect();
            Error::argument(
                "prompt_name",
                format!("{name:?}"),
                format!("one of the model's prompts, {names:?}"),
            )
        })
    }

    /// The tokens of texts, and for each the spans of the text they came from; see
    /// [`TextTokenizer::tokenize_with_offsets`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a prompt that cannot be, and whatever the observer returns.
    pub fn tokenize<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        role: Role,
        prompt: Prompt,
        observer: Observer,
    ) -> Result<Vec<(Tokens, Spans)>> {
        let prompt = self.prompt(prompt, role)?;
        self.for_texts(texts, |_, text, _| self.tokenizer.tokenize_with_offsets(text, prompt, role), observer)
    }

    /// What `convert` makes of every text and its index, in order, computed by all threads.
    pub(crate) fn for_texts<T: AsRef<str> + Sync, U: Send>(
        &self,
        texts: &[T],
        convert: impl Fn(usize, &str, GoOn) -> Result<U> + Sync,
        observer: Observer,
    ) -> Result<Vec<U>> {
        let mut results: Vec<Option<U>> = texts.iter().map(|_| None).collect();
        let jobs = texts.iter().enumerate().zip(&mut results).collect();
        let worker = || {
            |((index, text), result): ((usize, &T), &mut Option<U>), go_on: GoOn| {
                *result = Some(convert(index, text.as_ref(), go_on)?);
                Ok(1)
            }
        };
        queue::run(jobs, self.threads, worker, observer)?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Rows are written straight to their place in the result: how many a text has is known from its tokens.
    pub(crate) fn encode_tokens(
        &self,
        tokens: &[Tokens],
        batch_tokens: usize,
        observer: Observer,
    ) -> Result<MultiVectors> {
        let dim = self.dim();
        let mut offsets = vec![0];
        offsets.extend(tokens.iter().scan(0, |rows, text| {
            *rows += text.rows();
            Some(*rows)
        }));
        let mut data = vec![0.0; offsets[tokens.len()] * dim];
        let mut slots = Vec::with_capacity(tokens.len());
        let mut rest = data.as_mut_slice();
        for text in tokens {
            let (slot, after) = rest.split_at_mut(text.rows() * dim);
            slots.push(Some((text, slot)));
            rest = after;
        }
        let lengths: Vec<usize> = tokens.iter().map(|text| text.ids.len()).collect();
        let plan = batch::plan(&lengths, batch_tokens.min(MAX_BATCH_TOKENS));
        let jobs: Vec<Vec<_>> =
            plan.iter().map(|batch| batch.iter().filter_map(|&i| slots[i].take()).collect()).collect();
        let threads = if self.device == Device::Cpu { self.threads } else { 1 };
        // Threads that have no batch of their own help with those of others.
        let team = threads / jobs.len().max(1);
        let work = |texts, _: GoOn| self.encode_batch(texts, team);
        queue::run(jobs, threads, || work, observer)?;
        MultiVectors::new(data, offsets, dim)
    }

    /// Computes a batch on up to `threads` threads.
    fn encode_batch(&self, texts: Vec<(&Tokens, &mut [f32])>, threads: usize) -> Result<usize> {
        let batch = Batch::new(texts.iter().map(|(text, _)| (text.ids.as_slice(), text.attended)))?;
        let forward = || -> Result<_> {
            let hidden = self.encoder.forward(&batch)?;
            Ok((hidden.clone(), self.projection.forward(hidden)?))
        };
        let (hidden, rows) = team::with(threads.min(batch.ids().len() / TOKENS_OF_A_THREAD), forward)?;
        let rows = rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let dim = self.dim();
        let count = texts.len();
        let mut start = 0;
        for (text, slot) in texts {
            let end = start + text.ids.len() * dim;
            if !project::write_rows(&rows[start..end], &text.keep, dim, self.spec.normalize, slot) {
                let problem = "gives rows that are not finite (NaN or infinity); fetch the checkpoint again";
                let backbone = all_finite(&hidden)?;
                let file = self.provenance.get(usize::from(backbone)).or(self.provenance.first());
                let path = file.map_or(&self.spec.root, |source| &source.path);
                return Err(Error::model(path, "", problem));
            }
            start = end;
        }
        Ok(count)
    }
}

/// Whether the fault of rows that are not finite lies behind these hidden states.
fn all_finite(hidden: &Tensor) -> Result<bool> {
    Ok(hidden.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite()))
}

/// What is made of the weights.
struct Parts {
    encoder: Box<dyn Encoder>,
    projection: Projection,
    provenance: Vec<Provenance>,
}

impl Parts {
    fn load(spec: &Spec, compute: &Compute) -> Result<Self> {
        let (encoder, weights) = encoder::load(&spec.transformer, compute)?;
        let hidden = encoder.hidden_size();
        let (projection, sources) = match spec.format {
            Format::Stanford => (Projection::among(&weights, hidden)?, Vec::new()),
            _ => Projection::load(&spec.dense, hidden, compute)?,
        };
        let provenance = std::iter::once(weights.provenance()).chain(sources).collect();
        Ok(Self { encoder, projection, provenance })
    }
}
