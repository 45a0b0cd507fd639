// The page's side of a model: a worker that holds one, and answers.

const addresses = globalThis.trustedTypes?.createPolicy("chandelier-worker", { createScriptURL: (url) => url });

/** The worker ended: what it held is gone, and another must be opened. */
export class EngineDied extends Error {
  name = "EngineDied";
}

export class Engine {
  #worker;
  #waiting = new Map(); // id -> { resolve, reject, onProgress }
  #count = 0;
  #ended = null; // why it answers no more
  #onDeath;

  /** @param {() => void} onDeath is called once, if the worker ends by itself */
  constructor(onDeath) {
    this.#onDeath = onDeath;
    const url = new URL("worker.js", import.meta.url).href;
    this.#worker = new Worker(addresses?.createScriptURL(url) ?? url, { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#die(event.message || "its program could not be loaded");
    };
  }

  /** Opens a checkpoint; the files' memory goes over to the worker. */
  open(files, options) {
    const memory = Object.values(files).map((bytes) => bytes.buffer);
    return this.#call("open", { files, options }, undefined, memory);
  }

  /** Scores of documents; null if a newer ranking was asked for meanwhile. */
  rank(query, documents, onProgress) {
    return this.#call("rank", { query, documents }, onProgress);
  }

  pool(factor) {
    return this.#call("pool", { factor });
  }

  explain(query, document) {
    return this.#call("explain", { query, document });
  }

  close() {
    this.#end(new DOMException("the model was closed", "AbortError"));
  }

  #call(name, argument, onProgress, transfer = []) {
    if (this.#ended) {
      return Promise.reject(this.#ended);
    }
    const id = (this.#count += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, name, argument }, transfer);
    });
  }

  #receive({ id, result, error, progress }) {
    const call = this.#waiting.get(id);
    if (progress) {
      call?.onProgress?.(progress);
    } else if (error?.fatal) {
      this.#die(error.message);
    } else {
      this.#waiting.delete(id);
      if (error) {
        call?.reject(Object.assign(new Error(error.message), { name: error.name }));
      } else {
        call?.resolve(result);
      }
    }
  }

  #die(message) {
    if (!this.#ended) {
      this.#end(new EngineDied(message));
      this.#onDeath();
    }
  }

  #end(reason) {
    this.#ended = reason;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) {
      reject(reason);
    }
    this.#waiting.clear();
  }
}
