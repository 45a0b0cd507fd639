// Choosing a model, fetching its files, opening it, and opening it again should its worker end.

import { RemoteFolder } from "./checkpoint/remote.js";
import { LocalFolder, chosen, dropped } from "./checkpoint/local.js";
import { Engine, EngineDied } from "./engine.js";
import { Problem, isAbort, megabytes } from "./problem.js";
import { announce, byId, showProgress } from "./view/dom.js";
import { Messages } from "./view/messages.js";

// What to do about the errors of the core, by their kind; their own message says what it is.
const ADVICE = {
  MissingError: "Drop the whole folder of the checkpoint, with the folders inside it.",
  CompileError: "This browser is too old for the model’s program, which needs WebAssembly with SIMD: update it.",
};
const AGAIN = "If the files are those of a ColBERT, download or copy the folder again, all of it.";
const ANOTHER = "Take another model, unless that setting was changed by hand.";

export class ModelCard {
  #pieces;
  #onOpened;
  #onLost;
  #messages = new Messages(byId("model-messages"));
  #loading = null; // the AbortController of the load under way
  #opened = null; // { source, options, engine, info, name }
  #undecided = null; // the source that did not open, where another precision or the checkbox may help

  constructor({ pieces, onOpened, onLost }) {
    this.#pieces = pieces;
    this.#onOpened = onOpened;
    this.#onLost = onLost;
    this.#listen();
    this.#showKept();
  }

  /** Loads what the page's own address names, `?model=models/minilm/`; from elsewhere only when asked to. */
  loadFromAddress() {
    const wanted = new URLSearchParams(location.search).get("model");
    if (wanted === null) {
      return;
    }
    let address = null;
    try {
      address = new URL(wanted, document.baseURI);
    } catch {
      // it stands in the field, and loading it says what is wrong with it
    }
    byId("url").value = address?.href ?? wanted;
    if (!address || address.origin === location.origin) {
      this.#loadAddress();
    }
  }

  async load(source, options = chosenOptions()) {
    this.#loading?.abort();
    const loading = (this.#loading = new AbortController());
    this.#messages.clear();
    this.#undecided = null;
    showOptions(options);
    this.#showProgress({ text: `Reading ${source.name}…` });
    const engine = new Engine(() => this.#died(engine));
    try {
      const start = performance.now();
      const files = await source.read({
        signal: loading.signal,
        onProgress: ({ file, done, total }) =>
          this.#showProgress({ text: `${file} of ${source.name}: ${amount(done, total)}`, part: done / total }),
      });
      const reading = performance.now() - start;
      this.#showProgress({ text: `Opening ${source.name}…` });
      const info = await unlessAborted(engine.open(files, options), loading.signal);
      this.#opened?.engine.close();
      this.#opened = { source, options, engine, name: source.name, info: { ...info, reading } };
      this.#showOpened();
    } catch (error) {
      engine.close();
      if (this.#loading === loading && !isAbort(error)) {
        this.#showFailure(error, source, options);
      }
    } finally {
      if (this.#loading === loading) {
        this.#loading = null;
        this.#showProgress(null);
        showOptions(this.#opened?.options ?? options);
      }
      this.#showKept();
    }
  }

  /** A worker that ended by itself after its model was open: another takes its place. */
  #died(engine) {
    if (this.#opened?.engine === engine) {
      const { source, options } = this.#opened;
      this.#opened = null;
      this.#onLost();
      this.#summary("being opened again");
      this.load(source, options);
    }
  }

  #loadAddress() {
    try {
      this.load(new RemoteFolder(byId("url").value.trim(), this.#pieces));
    } catch (error) {
      this.#messages.clear();
      this.#showFailure(error);
      byId("url").focus();
    }
  }

  #loadFiles(entries) {
    this.load(new LocalFolder(entries));
  }

  #showOpened() {
    const { info, name } = this.#opened;
    this.#summary(`${name}: ${info.dim} dimensions, ${info.dtype}, documents of up to ${info.documentLength} tokens`);
    this.#openPanel(false);
    if (this.#pieces.problem && this.#opened.source instanceof RemoteFolder) {
      this.#messages.show({
        kind: "storage",
        mild: true,
        text: `The model works, but this browser could not keep it: ${this.#pieces.problem}.`,
        advice: "It will be fetched again next time, unless you free some space or allow this page to store data.",
      });
    }
    announce(`The model ${name} is open.`);
    this.#onOpened(this.#opened);
  }

  #showFailure(error, source, options) {
    const still = this.#opened ? ` ${this.#opened.name} stays open.` : "";
    const again = source ? { label: "Try again", run: () => this.load(source, options) } : undefined;
    if (error instanceof EngineDied) {
      this.#undecided = source;
      this.#messages.show({
        text: `${source.name} could not be opened: ${error.message}.`,
        advice: `Its files are damaged, or larger than this tab’s memory: try int8, a smaller model, or fetch it again.${still}`,
        action: again,
      });
    } else {
      this.#undecided = isAboutBert(error) ? source : null;
      this.#messages.show({ text: error.message, advice: `${advice(error, options)}${still}`, action: again });
    }
    if (!this.#opened) {
      this.#summary("none yet");
    }
    if (!this.#opened || this.#undecided) {
      this.#openPanel(true); // the choice that is advised is in there
    }
  }

  #summary(text) {
    byId("model-summary").textContent = text;
  }

  #showProgress(progress) {
    showProgress(byId("model-progress"), progress);
  }

  #openPanel(open) {
    byId("model-panel").hidden = !open;
    byId("model-toggle").setAttribute("aria-expanded", String(open));
  }

  async #showKept() {
    const size = await this.#pieces.size();
    byId("kept").hidden = size === 0;
    byId("kept-text").textContent = `${megabytes(size)} of models are kept in this browser.`;
  }

  #listen() {
    const pick = (button, input) => {
      byId(button).addEventListener("click", () => byId(input).click());
      byId(input).addEventListener("change", ({ target }) => {
        if (target.files.length) {
          this.#loadFiles(chosen(target.files));
          target.value = ""; // so that the same files can be chosen again
        }
      });
    };
    pick("choose-folder", "folder-input");
    pick("choose-files", "files-input");
    byId("url-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#loadAddress();
    });
    byId("cancel").addEventListener("click", () => {
      this.#loading?.abort();
      byId("model-toggle").focus(); // the button goes away
    });
    byId("model-toggle").addEventListener("click", () => this.#openPanel(byId("model-panel").hidden));
    byId("forget").addEventListener("click", async () => {
      await this.#pieces.forget();
      await this.#showKept();
      announce("Nothing is kept in this browser any more.");
      byId("url").focus();
    });
    for (const id of ["dtype", "from-bert"]) {
      byId(id).addEventListener("change", () => {
        const source = (this.#messages.has("error") && this.#undecided) || this.#opened?.source;
        if (source) {
          this.load(source);
        }
      });
    }
    this.#listenForDrops();
  }

  #listenForDrops() {
    const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
    addEventListener("dragover", (event) => {
      if (hasFiles(event)) {
        event.preventDefault();
        document.body.classList.add("dragging");
      }
    });
    addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
    addEventListener("drop", async (event) => {
      document.body.classList.remove("dragging");
      if (hasFiles(event)) {
        event.preventDefault();
        try {
          this.#loadFiles(await dropped(event.dataTransfer));
        } catch (error) {
          this.#showFailure(new Problem(`What was dropped could not be read: ${error.message}`, "Drop it again."));
        }
      }
    });
  }
}

function chosenOptions() {
  return { dtype: byId("dtype").value, fromBert: byId("from-bert").checked };
}

function showOptions({ dtype, fromBert }) {
  byId("dtype").value = dtype;
  byId("from-bert").checked = fromBert;
}

/** What to do about an error. */
function advice(error, options) {
  if (error instanceof Problem) {
    return error.advice;
  }
  if (isAboutBert(error)) {
    const checkbox = `“${byId("from-bert").labels[0].textContent.trim()}”`;
    const choice = options.fromBert ? `Uncheck ${checkbox}.` : `For a plain BERT, check ${checkbox}.`;
    return [ADVICE[error.name], choice].filter(Boolean).join(" ");
  }
  if (error.name === "ModelError") {
    return isDamage(error) ? AGAIN : ANOTHER;
  }
  return ADVICE[error.name] ?? "";
}

/** Whether the core names the option of the checkbox as the way out. */
function isAboutBert(error) {
  return error.message.includes("--from-bert");
}

/** Whether other bytes may help: of weights and of what no parser reads, but not of a setting that was read. */
function isDamage(error) {
  return /^[^:]*\.(safetensors|bin)\b|: not (valid JSON|a tokenizer)\b|fetch (it|the checkpoint) again/.test(error.message);
}

function amount(done, total) {
  return Number.isFinite(total) ? `${megabytes(done)} of ${megabytes(total)}` : megabytes(done);
}

/** The promise's value, unless the signal comes first. */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}
