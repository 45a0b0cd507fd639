// What a page's author writes: `make lint` compiles it, strictly, with the package's own types.

import init, { ColBERT, MultiVectors, maxsim, poolTokens } from "../../target/wasm/web/chandelier.js";
import type { Dtype, ErrorName, Explanation, Match, Options, Tokens } from "../../target/wasm/web/chandelier.js";

export async function search(files: Record<string, Uint8Array>, query: string, texts: string[]): Promise<number[]> {
  await init();
  const options: Options = { dtype: "int8" satisfies Dtype, queryLength: 32, fromBert: false };
  const model = new ColBERT(files, options);
  const documents: MultiVectors = model.encodeDocuments(texts, { poolFactor: 2 });
  const scores: Float32Array = maxsim(model.encodeQueries([query]), poolTokens(documents, 2, 1));
  const [tokens]: Tokens[] = model.tokenizeDocuments(texts);
  const found: Explanation = model.explain(query, texts[0] ?? "");
  const best: Match | undefined = found.matches[0];
  const place: [number, number] | undefined = best?.span;
  const name: ErrorName = "ModelError";
  console.log(model.dim, tokens?.ids.length, place, name, MultiVectors.fromParts(scores, new Uint32Array([0, 1]), scores.length).length);
  documents.free();
  return Array.from(scores);
}

export function wrong(model: ColBERT, rows: MultiVectors): void {
  // @ts-expect-error: no such precision
  new ColBERT({}, { dtype: "float16" });
  // @ts-expect-error: no such option
  new ColBERT({}, { querylength: 32 });
  // @ts-expect-error: one text is no list of texts
  model.encodeQueries("a text");
  // @ts-expect-error: it is what the checkpoint says
  model.dim = 3;
  // @ts-expect-error: without how many rows become one
  poolTokens(rows);
}
