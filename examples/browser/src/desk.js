// Query and documents, ranked anew whenever they change.

import { EngineDied } from "./engine.js";
import { isAbort } from "./problem.js";
import { DOCUMENTS, QUERIES } from "./samples.js";
import { announce, byId, count, element, showProgress } from "./view/dom.js";
import { explanationView } from "./view/explanation.js";
import { Messages } from "./view/messages.js";
import { ranks, rankingTable } from "./view/ranking.js";
import { timings } from "./view/timing.js";

const PAUSE = 150; // milliseconds after the last key before the texts are ranked

export class Desk {
  #messages = new Messages(byId("results-messages"));
  #model = null;
  #typing = 0;
  #turn = 0; // counts updates: what an older one finds is dropped
  #ranking = null; // { query, texts, scores, tokens, ... } of the last one
  #pooled = null;
  #wanted = null; // the text that the visitor chose to see explained
  #died = null; // the texts with which the worker ended last, and how often in a row

  constructor() {
    byId("query").value = QUERIES[0];
    byId("documents").value = DOCUMENTS.join("\n");
    byId("samples").append(...QUERIES.slice(1).map((query) => this.#sample(query)));
    for (const id of ["query", "documents"]) {
      byId(id).addEventListener("input", () => this.#changed(PAUSE));
    }
    byId("pool-factor").addEventListener("input", () => this.#poolAgain());
    this.#showFactor();
    this.#changed(0);
  }

  /** @param model what `ModelCard` opened, or null while there is none */
  setModel(model) {
    this.#model = model;
    this.#ranking = null;
    this.#changed(0);
  }

  #changed(pause) {
    const { documents } = texts();
    byId("documents-count").textContent = count(documents.length, "document");
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.#update(), pause);
  }

  async #update() {
    const turn = (this.#turn += 1);
    const { query, documents } = texts();
    const missing = this.#missing(query, documents);
    if (missing) {
      this.#clear(missing);
      return;
    }
    byId("results").setAttribute("aria-busy", "true");
    await this.#guarded(turn, async () => {
      const { engine } = this.#model;
      const ranking = await engine.rank(query, documents, (progress) => this.#showProgress(turn, progress));
      const pooled = ranking && turn === this.#turn ? await engine.pool(factor()) : null;
      if (pooled && turn === this.#turn) {
        this.#ranking = { ...ranking, query, texts: documents };
        this.#pooled = pooled;
        this.#clearMessages(key(query, documents));
        this.#showRanking();
        this.#tellOfCut(ranking.cut);
        await this.#explain(turn);
      }
    });
    if (turn === this.#turn) {
      this.#rest();
    }
  }

  /** That the worker ended stays on the page while the texts with which it did. */
  #clearMessages(ranked) {
    this.#messages.clear("error");
    this.#messages.clear("cut");
    if (this.#died?.texts !== ranked) {
      this.#messages.clear("died");
      this.#died = null;
    }
  }

  #rest() {
    byId("results").setAttribute("aria-busy", "false");
    showProgress(byId("ranking-progress"), null);
  }

  /** What has to be there before anything can be ranked. */
  #missing(query, documents) {
    if (!this.#model) {
      return "The documents are ranked here as soon as a model is open.";
    }
    if (!query) {
      return "Type a query, and the documents are ranked here.";
    }
    if (!documents.length) {
      return "Type one or more documents, one a line, and they are ranked here.";
    }
    if (this.#died?.times > 1 && this.#died.texts === key(query, documents)) {
      return "These texts ended the model’s program twice. Change them, and they are ranked again.";
    }
    return null;
  }

  /** Runs a step; what goes wrong is said, unless something newer is under way. */
  async #guarded(turn, step) {
    try {
      await step();
    } catch (error) {
      if (isAbort(error) || turn !== this.#turn) {
        return;
      }
      if (error instanceof EngineDied) {
        this.#rememberDeath(error);
      } else {
        this.#clear(null);
        this.#messages.show({ text: error.message, advice: "Change the texts, and they are ranked again." });
      }
    }
  }

  #rememberDeath(error) {
    const { query, documents } = texts();
    const died = key(query, documents);
    this.#died = { texts: died, times: this.#died?.texts === died ? this.#died.times + 1 : 1 };
    this.#messages.show({
      kind: "died",
      text: `The model’s program ended and is started again: ${error.message}.`,
      advice: "If it happens again, take shorter or fewer documents, or a smaller model.",
    });
  }

  #clear(hint) {
    this.#ranking = null;
    byId("ranking").replaceChildren(...(hint ? [element("p", { class: "empty" }, hint)] : []));
    byId("timing").replaceChildren(...timings({ model: this.#model?.info }));
    byId("explanation").hidden = true;
    this.#rest();
  }

  #showProgress(turn, { done, total }) {
    if (turn === this.#turn && total > 8) {
      const text = `${done} of ${total} documents are encoded`;
      showProgress(byId("ranking-progress"), { text, part: done / total });
    }
  }

  #showRanking() {
    const order = ranks(this.#ranking.scores);
    const selected = this.#selected(order);
    const focused = document.activeElement?.closest?.("#ranking")?.querySelector(":focus")?.dataset.place;
    byId("ranking").replaceChildren(
      rankingTable({
        ranking: this.#ranking,
        pooled: this.#pooled,
        order,
        selected,
        onSelect: (place) => this.#select(place),
      }),
    );
    if (focused !== undefined) {
      byId("ranking").querySelector(`[data-place="${focused}"]`)?.focus();
    }
    byId("timing").replaceChildren(
      ...timings({ model: this.#model.info, ranking: this.#ranking, pooled: this.#pooled }),
    );
    const [best] = order;
    announce(
      `${count(order.length, "document")} ranked. Best, with ${this.#ranking.scores[best].toFixed(2)}, ` +
        `pooled ${this.#pooled.scores[best].toFixed(2)}: ${this.#ranking.texts[best].slice(0, 80)}`,
    );
  }

  /** The place of what is explained: the visitor's choice while it is there, else the best. */
  #selected(order) {
    const chosen = this.#ranking.texts.indexOf(this.#wanted);
    return chosen >= 0 ? chosen : order[0];
  }

  #select(place) {
    this.#wanted = this.#ranking.texts[place];
    this.#showRanking();
    this.#guarded(this.#turn, () => this.#explain(this.#turn));
  }

  async #explain(turn) {
    const { query, scores, texts } = this.#ranking;
    const document = texts[this.#selected(ranks(scores))];
    const explanation = await this.#model.engine.explain(query, document).then(
      (found) => explanationView(found, query, document),
      (error) => {
        if (error instanceof EngineDied || isAbort(error)) {
          throw error;
        }
        return [element("p", { class: "hint" }, error.message)]; // a checkpoint that pools rows has none
      },
    );
    if (turn === this.#turn && this.#ranking?.texts === texts && document === texts[this.#selected(ranks(scores))]) {
      byId("explanation-body").replaceChildren(...explanation);
      byId("explanation").hidden = false;
    }
  }

  async #poolAgain() {
    this.#showFactor();
    if (!this.#ranking) {
      return;
    }
    const turn = this.#turn;
    const wanted = factor();
    await this.#guarded(turn, async () => {
      const pooled = await this.#model.engine.pool(wanted);
      if (turn === this.#turn && wanted === factor() && this.#ranking) {
        this.#pooled = pooled;
        this.#showRanking();
      }
    });
  }

  #showFactor() {
    byId("pool-output").textContent = String(factor());
    byId("pool-factor").setAttribute("aria-valuetext", factor() === 1 ? "1, no pooling" : `one token of ${factor()}`);
  }

  #tellOfCut(cut) {
    if (cut) {
      this.#messages.show({
        kind: "cut",
        mild: true,
        text: `${count(cut, "document")} ${cut === 1 ? "has" : "have"} more than the ${this.#model.info.documentLength} tokens that the model reads, so only the beginning counts.`,
        advice: "Split long documents into several lines.",
      });
    }
  }

  #sample(query) {
    const use = () => {
      byId("query").value = query;
      this.#wanted = null;
      this.#changed(0);
    };
    return element("li", {}, element("button", { type: "button", class: "quiet", onclick: use }, query));
  }
}

function texts() {
  const documents = wellFormed(byId("documents").value).split("\n").map((line) => line.trim());
  return { query: wellFormed(byId("query").value).trim(), documents: documents.filter(Boolean) };
}

/** The text with U+FFFD in place of each half of a surrogate pair, which is no character and has no UTF-8. */
function wellFormed(text) {
  return text.toWellFormed?.() ?? text.replace(/\p{Surrogate}/gu, "\ufffd"); // browsers before 2023 lack it
}

function factor() {
  return Number(byId("pool-factor").value);
}

function key(query, documents) {
  return [query, ...documents].join("\n");
}
