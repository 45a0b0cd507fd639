// What went wrong, where it went wrong, until it is mended or dismissed.

import { element } from "./dom.js";

/** A place for messages, at most one of a kind. */
export class Messages {
  #place;

  constructor(place) {
    this.#place = place;
    place.replaceChildren();
  }

  /** @param {{kind?: string, text: string, advice?: string, action?: {label: string, run: () => void}, mild?: boolean}} message */
  show({ kind = "error", text, advice, action, mild = false }) {
    this.clear(kind);
    const dismiss = element("button", { type: "button", class: "quiet", onclick: () => this.clear(kind) }, "Dismiss");
    const act = action
      ? element("button", { type: "button", onclick: () => (this.clear(kind), action.run()) }, action.label)
      : null;
    this.#place.append(
      element(
        "div",
        { class: mild ? "message mild" : "message", role: mild ? "status" : "alert", "data-kind": kind },
        element("p", { dir: "auto" }, element("strong", {}, sentence(text)), advice ? ` ${advice}` : ""),
        element("p", { class: "buttons" }, act, dismiss),
      ),
    );
  }

  has(kind) {
    return [...this.#place.children].some((message) => message.dataset.kind === kind);
  }

  clear(kind) {
    for (const message of [...this.#place.children]) {
      if (kind === undefined || message.dataset.kind === kind) {
        message.remove();
      }
    }
  }
}

/** With a full stop, which the core's messages lack: advice may follow. */
function sentence(text) {
  return /[.?!…][”"')]*$/.test(text) ? text : `${text}.`;
}
