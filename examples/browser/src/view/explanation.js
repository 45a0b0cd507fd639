// Why a document has its score: the query's tokens with their shares, the document with what they matched, the numbers.

import { element } from "./dom.js";
import { heatMap } from "./heatmap.js";
import { label, percent, sameText, visible } from "./text.js";

const UNSEEN_SHOWN = 400; // characters of what the model did not read

/** The children of the explanation's card. */
export function explanationView(explanation, query, document) {
  const shown = { ...explanation, query, document };
  return [
    element(
      "p",
      { class: "total" },
      element("data", { class: "score", value: explanation.score }, explanation.score.toFixed(3)),
      ` MaxSim: the sum over ${explanation.matches.length} query tokens of their best match`,
    ),
    ...queryTokens(shown),
    markedDocument(shown),
    unseenNote(shown),
    details("Matches, in numbers", matchTable(shown)),
    heatMap(shown),
  ].filter(Boolean);
}

function queryTokens(shown) {
  const numbers = shown.matches.map((_, number) => number);
  const spoken = numbers.filter((number) => shown.querySpans[number]);
  const unspoken = new Map(); // a query may be filled up with 30 of one kind
  for (const number of numbers.filter((number) => !shown.querySpans[number])) {
    const token = shown.queryTokens[number];
    unspoken.set(token, [...(unspoken.get(token) ?? []), number]);
  }
  const chip = (members) => {
    const shares = members.map((number) => shown.matches[number].share);
    const together = shares.reduce((sum, share) => sum + share, 0);
    const [first] = members;
    return element(
      "li",
      { "--w": strength(shown.matches[first].similarity) },
      element("bdi", {}, queryLabel(shown, first)),
      members.length > 1 ? ` × ${members.length}` : "",
      " ",
      element("small", {}, percent(together)),
    );
  };
  const list = (name, kind, groups) =>
    groups.length ? element("ul", { class: `chips ${kind}`, "aria-label": name }, ...groups.map(chip)) : null;
  return [
    list("Query tokens and their part of the score", "spoken", spoken.map((number) => [number])),
    list("Special and expansion tokens and their part of the score", "unspoken", [...unspoken.values()]),
  ];
}

function markedDocument(shown) {
  const { document } = shown;
  const [start, end] = shown.documentSeen;
  const children = [];
  if (start > 0) {
    children.push(element("span", { class: "unseen" }, visible(document.slice(Math.max(0, start - UNSEEN_SHOWN), start))));
  }
  let place = start;
  for (const span of shown.spans) {
    children.push(visible(document.slice(place, span.start)));
    children.push(mark(shown, span));
    place = span.end;
  }
  children.push(visible(document.slice(place, end)));
  if (end < document.length) {
    const hidden = sameText(document.slice(end), UNSEEN_SHOWN);
    children.push(element("span", { class: "unseen" }, visible(hidden) + (end + hidden.length < document.length ? "…" : "")));
  }
  return element("p", { class: "document", dir: "auto", lang: "" }, ...children);
}

/** A part of the document, as strong as its best match with a word of the query. */
function mark(shown, span) {
  const found = Array.from(span.queryTokens, (number) => ({ number, match: shown.matches[number] }));
  const best = found
    .filter(({ number }) => shown.querySpans[number])
    .reduce((most, { match }) => Math.max(most, match.similarity), 0);
  const names = found.map(({ number, match }) => `${queryLabel(shown, number)} ${match.similarity.toFixed(3)}`);
  return element(
    "mark",
    {
      "--w": strength(best),
      "data-weight": span.weight.toFixed(2), // shown by the style sheet, so that copied text is the document's
      title: `adds ${span.weight.toFixed(3)}: best match of ${names.join(", ")}`,
    },
    visible(shown.document.slice(span.start, span.end)),
  );
}

function unseenNote({ query, document, querySeen, documentSeen }) {
  const sides = [
    ["query", query.length, querySeen],
    ["document", document.length, documentSeen],
  ];
  const cut = sides
    .map(([name, length, [start, end]]) => [name, length, length - (end - start)])
    .filter(([, , hidden]) => hidden > 0)
    .map(([name, length, hidden]) => `${hidden.toLocaleString("en")} of the ${length.toLocaleString("en")} characters of the ${name}`);
  return cut.length
    ? element("p", { class: "hint" }, `Longer than the model reads, so not seen by it: ${cut.join(" and ")}.`)
    : null;
}

function matchTable(shown) {
  const rows = shown.matches.map((match, number) => {
    const found = label(shown.document, match.span, shown.documentTokens[match.documentToken]);
    return element(
      "tr",
      { class: shown.querySpans[number] ? null : "unspoken" },
      element("th", { scope: "row" }, element("bdi", {}, queryLabel(shown, number))),
      element("td", {}, element("bdi", {}, found)),
      element("td", { class: "number" }, match.similarity.toFixed(3)),
      element("td", { class: "number" }, percent(match.share, 1)),
    );
  });
  const head = ["query token", "best match", "similarity", "of the score"].map((name, i) =>
    element("th", { scope: "col", class: i > 1 ? "number" : null }, name),
  );
  return element(
    "table",
    { class: "numbers" },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
}

function details(summary, content) {
  return element("details", {}, element("summary", {}, summary), content);
}

export function queryLabel(shown, number) {
  return label(shown.query, shown.querySpans[number], shown.queryTokens[number]);
}

function strength(similarity) {
  return Math.min(1, Math.max(0, similarity)).toFixed(3);
}
