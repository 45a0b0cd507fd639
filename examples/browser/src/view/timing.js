// How long it all took.

import { count, element } from "./dom.js";

/** The entries of the list of timings. */
export function timings({ model, ranking, pooled }) {
  const entries = [];
  if (model) {
    entries.push(["Model", `${time(model.reading + model.compiling + model.opening)}`,
      `${time(model.reading)} to read its files, ${time(model.opening)} to open it`]);
  }
  if (ranking) {
    const { fresh, milliseconds, queryTokens } = ranking;
    entries.push(["Query", time(milliseconds.query), count(queryTokens, "token")]);
    entries.push(["Documents", fresh.documents ? time(milliseconds.documents) : "no new ones", fresh.documents
      ? `${count(fresh.tokens, "token")}, ${Math.round((1000 * fresh.tokens) / milliseconds.documents).toLocaleString("en")} a second`
      : "only what changed is encoded"]);
    entries.push(["Scores", time(milliseconds.score), count(ranking.scores.length, "document")]);
  }
  if (pooled) {
    entries.push(["Pooling", time(pooled.milliseconds), "of all documents"]);
  }
  return entries.map(([name, value, detail]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, detail))),
  );
}

export function time(milliseconds) {
  if (milliseconds >= 1000) {
    return `${(milliseconds / 1000).toFixed(milliseconds < 10000 ? 2 : 1)} s`;
  }
  return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}
