// The model's own thread: one model, what it encoded, and the questions about it.

import init, { ColBERT, MultiVectors, maxsim, poolTokens } from "../chandelier/chandelier.js";

const PORTION = 8; // documents encoded between two looks at the messages

let model = null;
let encoded = new Map(); // text -> { rows, cut } of the documents of the last ranking
let ranked = null; // the query's and the documents' rows of the last ranking, and the documents' texts
let newest = 0; // the latest ranking that was asked for; older ones stop

const calls = {
  async open({ files, options }) {
    const start = performance.now();
    await init();
    const ready = performance.now();
    model = new ColBERT(files, options);
    return {
      dim: model.dim,
      queryLength: model.queryLength,
      documentLength: model.documentLength,
      dtype: model.dtype,
      fingerprint: model.fingerprint,
      compiling: ready - start,
      opening: performance.now() - ready,
    };
  },

  /** Scores and token counts of documents, in their order. */
  async rank({ query, documents, id }, progress) {
    const fresh = [...new Set(documents)].filter((text) => !encoded.has(text));
    let encoding = 0;
    let freshTokens = 0;
    for (let start = 0; start < fresh.length; start += PORTION) {
      progress({ done: start, total: fresh.length });
      await new Promise((resolve) => setTimeout(resolve));
      if (id !== newest) {
        return null;
      }
      const texts = fresh.slice(start, start + PORTION);
      const seen = model.tokenizeDocuments(texts).map((tokens) => tokens.seen);
      const portion = timed(() => model.encodeDocuments(texts));
      const { data, offsets, dim } = portion.value;
      texts.forEach((text, i) => {
        const rows = data.slice(offsets[i] * dim, offsets[i + 1] * dim);
        encoded.set(text, { rows, cut: seen[i][1] - seen[i][0] < text.length });
      });
      portion.value.free();
      encoding += portion.milliseconds;
      freshTokens += offsets[texts.length];
    }
    encoded = new Map(documents.map((text) => [text, encoded.get(text)]));
    const found = documents.map((text) => encoded.get(text));
    const encodedQuery = timed(() => model.encodeQueries([query])); // not before: it would leak if a document fails
    replaceRanked(encodedQuery.value, documents, found);
    const scores = timed(() => maxsim(ranked.query, ranked.documents));
    return {
      scores: scores.value,
      tokens: lengths(ranked.documents),
      queryTokens: lengths(ranked.query)[0],
      milliseconds: { query: encodedQuery.milliseconds, documents: encoding, score: scores.milliseconds },
      cut: found.filter(({ cut }) => cut).length,
      fresh: { documents: fresh.length, tokens: freshTokens },
    };
  },

  /** The same of the last ranking with its documents pooled. */
  async pool({ factor }) {
    const pooled = timed(() => poolTokens(ranked.documents, factor, 1));
    const scores = timed(() => maxsim(ranked.query, pooled.value));
    const tokens = lengths(pooled.value);
    pooled.value.free();
    return { factor, scores: scores.value, tokens, milliseconds: pooled.milliseconds, scoring: scores.milliseconds };
  },

  async explain({ query, document }) {
    return model.explain(query, document);
  },
};

self.onmessage = async ({ data: { id, name, argument } }) => {
  if (name === "rank") {
    newest = id;
  }
  try {
    const result = await calls[name]({ ...argument, id }, (progress) => self.postMessage({ id, progress }));
    self.postMessage({ id, result });
  } catch (error) {
    self.postMessage({ id, error: { name: error.name, message: error.message, fatal: isFatal(error) } });
  }
};

/** What a call held that trapped or panicked is never freed: only a new worker has that memory again. */
function isFatal(error) {
  const trapped = error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
  return trapped || ["MemoryError", "ChandelierError"].includes(error.name);
}

/** Makes this the last ranking; documents that are the same as before stay where they are. */
function replaceRanked(query, texts, found) {
  ranked?.query.free();
  const same = ranked?.texts.length === texts.length && ranked.texts.every((text, i) => text === texts[i]);
  if (!same) {
    ranked?.documents.free();
  }
  const documents = same ? ranked.documents : joined(found.map(({ rows }) => rows), model.dim);
  ranked = { query, documents, texts };
}

function timed(work) {
  const start = performance.now();
  const value = work();
  return { value, milliseconds: performance.now() - start };
}

/** Matrices end to end. */
function joined(matrices, dim) {
  const offsets = new Uint32Array(matrices.length + 1);
  matrices.forEach((matrix, i) => (offsets[i + 1] = offsets[i] + matrix.length / dim));
  const data = new Float32Array(offsets[matrices.length] * dim);
  matrices.forEach((matrix, i) => data.set(matrix, offsets[i] * dim));
  return MultiVectors.fromParts(data, offsets, dim);
}

function lengths({ offsets }) {
  return Array.from(offsets.subarray(1), (end, i) => end - offsets[i]);
}
