// Every query token with every document token: a table whose cells the arrow keys walk through.

import { element } from "./dom.js";
import { label } from "./text.js";

const KEYS = {
  ArrowLeft: (row, column) => [row, column - 1],
  ArrowRight: (row, column) => [row, column + 1],
  ArrowUp: (row, column) => [row - 1, column],
  ArrowDown: (row, column) => [row + 1, column],
  Home: (row) => [row, 0],
  End: (row) => [row, Infinity],
  PageUp: (_, column) => [0, column],
  PageDown: (_, column) => [Infinity, column],
};

/** The heat map, with what the pointer or the focus is on in words. Expansion tokens' rows are hidden until asked for. */
export function heatMap(shown) {
  const width = shown.documentTokens.length;
  const columns = shown.documentTokens.map((token, i) => label(shown.document, shown.documentSpans[i], token));
  const names = shown.queryTokens.map((token, i) => label(shown.query, shown.querySpans[i], token));
  const best = shown.matches.map((match) => match.documentToken);
  const [low, high] = shown.similarities.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
  const readout = element("p", { class: "readout", "aria-hidden": "true" }, "Point at a cell, or walk with the arrow keys.");

  const cells = names.map((name, row) =>
    columns.map((column, i) => {
      const similarity = shown.similarities[row * width + i];
      const isBest = best[row] === i;
      return element("td", {
        role: "gridcell",
        tabindex: "-1",
        class: isBest ? "best" : null,
        "--w": ((similarity - low) / Math.max(high - low, 1e-6)).toFixed(3),
        "aria-label": `${name}, ${column}: ${similarity.toFixed(3)}${isBest ? ", the best of its row" : ""}`,
      });
    }),
  );
  const rows = cells.map((row, i) =>
    element(
      "tr",
      { role: "row", class: shown.querySpans[i] ? null : "unspoken" },
      element("th", { role: "rowheader", scope: "row" }, element("bdi", {}, names[i])),
      ...row,
    ),
  );
  const head = columns.map((name) =>
    element("th", { role: "columnheader", scope: "col" }, element("span", {}, element("bdi", {}, name))),
  );
  const table = element(
    "table",
    { class: "heat", role: "grid", "aria-label": "Similarity of every query token with every document token" },
    element("thead", {}, element("tr", { role: "row" }, element("td", { role: "gridcell", class: "corner" }), ...head)),
    element("tbody", {}, ...rows),
  );
  const say = (cell) => (readout.textContent = cell.getAttribute("aria-label"));
  table.addEventListener("pointerover", ({ target }) => target.matches("tbody td") && say(target));
  walkable(table, rows, cells, say);

  const section = element("section", { class: "heat-section", "aria-labelledby": "heat-title" });
  const hasUnspoken = shown.querySpans.some((span) => !span);
  const toggle = element("input", {
    type: "checkbox",
    onchange: ({ target }) => section.classList.toggle("all", target.checked),
  });
  section.append(
    element(
      "div",
      { class: "row spread" },
      element("h3", { id: "heat-title" }, "Every token with every token"),
      hasUnspoken ? element("label", { class: "check" }, toggle, " special and expansion tokens, too") : "",
    ),
    readout,
    element("div", { class: "heat-scroll" }, table),
    element("p", { class: "hint" }, `From ${low.toFixed(2)}, faint, to ${high.toFixed(2)}, strong. Framed: the best of each row.`),
  );
  return section;
}

/** One cell at a time is reached by Tab; the arrow keys go to its neighbours. */
function walkable(table, rows, cells, say) {
  let current = cells.flat().find((cell) => cell.classList.contains("best") && !cell.closest(".unspoken")) ?? cells[0][0];
  current.tabIndex = 0;
  table.addEventListener("focusin", ({ target }) => {
    if (target.matches("tbody td")) {
      current.tabIndex = -1;
      current = target;
      current.tabIndex = 0;
      say(current);
    }
  });
  table.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) {
      return;
    }
    const open = cells.filter((_, i) => rows[i].getClientRects().length > 0); // those that are not hidden
    const row = open.findIndex((line) => line.includes(current));
    const [down, right] = step(row, open[row].indexOf(current));
    const line = open[Math.min(Math.max(down, 0), open.length - 1)];
    line[Math.min(Math.max(right, 0), line.length - 1)].focus();
    event.preventDefault();
  });
}
