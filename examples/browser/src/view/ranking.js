// The ranked documents: score and tokens as they are, and pooled, side by side.

import { count, element } from "./dom.js";
import { sameText, visible } from "./text.js";

const SHOWN = 100; // rows; a longer list would be scrolled past, and make typing slow
const EXCERPT = 280; // characters
const [ALL, POOLED] = ["All tokens", "Pooled"];

/** A table of a ranking, best first.
 *
 * `ranking` has texts, scores and tokens; `pooled` scores and tokens of the same documents; `order` their
 * places, best first; `selected` the place of the one that is explained.
 */
export function rankingTable({ ranking, pooled, order, selected, onSelect }) {
  const best = [...ranking.scores, ...pooled.scores].reduce((most, score) => Math.max(most, score), 1e-6);
  const pooledRank = new Map(ranks(pooled.scores).map((place, rank) => [place, rank + 1]));
  const rows = order.slice(0, SHOWN).map((place, rank) =>
    element(
      "tr",
      { role: "row", class: place === selected ? "selected" : null },
      element(
        "th",
        { role: "rowheader", scope: "row" },
        element(
          "button",
          { type: "button", "aria-pressed": String(place === selected), "data-place": place, onclick: () => onSelect(place) },
          element("span", { class: "rank" }, `${rank + 1}`),
          element("span", { class: "excerpt", dir: "auto", lang: "" }, excerpt(ranking.texts[place])),
        ),
      ),
      cell(ranking.scores[place], ranking.tokens[place], best, ALL),
      cell(pooled.scores[place], pooled.tokens[place], best, POOLED, move(rank + 1, pooledRank.get(place))),
    ),
  );
  // Roles are spelled out, since a narrow screen shows the table's parts as blocks.
  const header = (name) => element("th", { role: "columnheader", scope: "col" }, name);
  const total = (column, ...children) => element("td", { role: "cell", "data-column": column }, ...children);
  return element(
    "table",
    { class: "ranking", role: "table" },
    element("caption", { class: "visually-hidden" }, "Documents by their score for the query, best first"),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...["Document", ALL, POOLED].map(header))),
    element("tbody", { role: "rowgroup" }, ...rows),
    element(
      "tfoot",
      { role: "rowgroup" },
      element(
        "tr",
        { role: "row" },
        element(
          "th",
          { role: "rowheader", scope: "row" },
          order.length > SHOWN ? `the best ${SHOWN} of ${order.length} are shown; together` : "together",
        ),
        total(ALL, count(sum(ranking.tokens), "token")),
        total(POOLED, count(sum(pooled.tokens), "token"), saving(ranking.tokens, pooled.tokens)),
      ),
    ),
  );
}

/** Places by score, best first; the first of equal ones comes first, as in Python. */
export function ranks(scores) {
  return Array.from(scores, (_, place) => place).sort((a, b) => scores[b] - scores[a] || a - b);
}

function cell(score, tokens, best, column, moved) {
  return element(
    "td",
    { role: "cell", "data-column": column, "--part": Math.max(0, score / best).toFixed(4) },
    element("data", { class: "score", value: score }, score.toFixed(3)),
    element("span", { class: "tokens" }, count(tokens, "token")),
    moved,
  );
}

function move(rank, pooledRank) {
  if (rank === pooledRank) {
    return null;
  }
  const arrow = pooledRank < rank ? "↑" : "↓";
  return element("span", { class: "move", title: `rank ${pooledRank} when pooled` }, `${arrow} rank ${pooledRank}`);
}

function saving(tokens, pooled) {
  const part = 1 - sum(pooled) / sum(tokens);
  return element("span", { class: "saving" }, part < 0.005 ? "none saved" : `${Math.round(100 * part)} % saved`);
}

function excerpt(text) {
  return visible(text.length > EXCERPT ? `${sameText(text, EXCERPT)}…` : text);
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}
