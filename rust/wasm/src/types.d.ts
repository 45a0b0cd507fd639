/// <reference lib="esnext.disposable" />

/** What layers compute in; the rows that come out are float32 in any case. */
export type Dtype = "float32" | "int8";

/** How a model is opened. What is left out (or undefined) is as the checkpoint says. */
export interface Options {
  /** "int8" keeps the layers' weights in a quarter of the memory. */
  dtype?: Dtype;
  /** Tokens of a query, prefix and special tokens included. */
  queryLength?: number;
  /** Most tokens of a document, prefix and special tokens included. */
  documentLength?: number;
  /** The token put before queries; "" means none. */
  queryPrefix?: string;
  /** The token put before documents; "" means none. */
  documentPrefix?: string;
  /** Tokens whose document rows are dropped; [] means none. */
  skiplistWords?: string[];
  /** Whether queries are filled up with mask tokens whose rows count. */
  doQueryExpansion?: boolean;
  /** Whether the other tokens see those mask tokens. */
  attendToExpansionTokens?: boolean;
  /** Open a BERT-like model without a projection: late interaction over its bare hidden states. */
  fromBert?: boolean;
}

/** How the rows of documents are pooled, besides what the checkpoint does by itself. */
export interface Pooling {
  /** One row is kept of about this many; 1, which is assumed, pools nothing. */
  poolFactor?: number;
  /** So many rows at the start are kept as they are; 1 if not given. */
  protectedTokens?: number;
}

/** The tokens of one text. */
export interface Tokens {
  /** As the vocabulary spells them. */
  tokens: string[];
  ids: Uint32Array;
  /** 1 for tokens that the others see. */
  attentionMask: Uint8Array;
  /** 1 for tokens whose row is part of the result. */
  keep: Uint8Array;
  /** The part of the text that was read, in its UTF-16 code units: all, unless it has more tokens than the model's length. */
  seen: [number, number];
}

/** Why a document has its score. Tokens are those that have a row. */
export interface Explanation {
  /** The sum of the best similarities. */
  score: number;
  queryTokens: string[];
  documentTokens: string[];
  /** queryTokens x documentTokens, row after row. */
  similarities: Float32Array;
  /** For each of `queryTokens` its place in the query, in UTF-16 code units; null where it stands for no text. */
  querySpans: ([number, number] | null)[];
  /** The same of `documentTokens`. */
  documentSpans: ([number, number] | null)[];
  /** The part of the query that the model read: all, unless it has more tokens than `queryLength`. */
  querySeen: [number, number];
  /** The same of the document and `documentLength`. */
  documentSeen: [number, number];
  /** One a query token: the first document token with the highest similarity. */
  matches: Match[];
  /** The parts of the document that were chosen, in order; no two overlap. */
  spans: WeightedSpan[];
}

export interface Match {
  queryToken: number;
  documentToken: number;
  similarity: number;
  /** The similarity divided by the score. */
  share: number;
  /** Where the document's token stands, in UTF-16 code units of its text; absent for special tokens. */
  span?: [number, number];
}

export interface WeightedSpan {
  /** In UTF-16 code units of the document's text. */
  start: number;
  end: number;
  /** The sum of the similarities of the query tokens that chose it. */
  weight: number;
  /** The part of it that comes from query tokens that stand for text. */
  wordWeight: number;
  /** Those query tokens, as places in `matches`. */
  queryTokens: Uint32Array;
}

/**
 * Errors are `Error`s with one of these names, and a message that says what came, what was wanted and the way out:
 * "ArgumentError", "ShapeError", "ModelError" (a checkpoint's file), "MissingError" (a file that is not there),
 * "DeviceError", "IoError", "MemoryError" (WebAssembly's is exhausted), and "ChandelierError" for a defect of this package.
 * What was freed, or is no object of this package, is refused by its bindings, with a plain "Error".
 */
export type ErrorName =
  | "ArgumentError"
  | "ShapeError"
  | "ModelError"
  | "MissingError"
  | "DeviceError"
  | "IoError"
  | "MemoryError"
  | "ChandelierError";
