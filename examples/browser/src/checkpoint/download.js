// One file behind an address, in pieces: kept as they arrive, tried again when the connection breaks.

import { Problem } from "../problem.js";

const OPENING = 1 << 16; // what a first request asks for: most settings are smaller, so that one is enough
const PIECE = 1 << 22;
const PAUSES = [500, 1500, 4000]; // milliseconds before an attempt is repeated

export class RemoteFile {
  #address;
  #opening; // its first bytes
  #response; // the whole, still arriving, from a server that sends no parts
  #version;
  #keeping = Promise.resolve(); // the last piece, while it is stored

  /** The file, or null if there is none; its opening has arrived then, and its size is known if the server tells it. */
  static async open(address, signal) {
    const response = await request(address, { start: 0, end: OPENING }, signal);
    if ([403, 404, 410].includes(response.status) || isPage(response)) {
      response.body?.cancel();
      return null;
    }
    const file = new RemoteFile();
    file.#address = address;
    file.#version = version(response);
    file.size = Number(response.headers.get("Content-Length") ?? Number.NaN);
    if (response.status === 416) {
      file.size = 0;
      file.#opening = new Uint8Array();
      return file;
    }
    const part = contentRange(response);
    if (response.status === 206 && part) {
      file.size = part.total;
      file.#opening = new Uint8Array(await response.arrayBuffer());
    } else if (response.status === 206) {
      response.body?.cancel(); // a part whose place another origin may not see
      file.#response = await request(address, null, signal);
      file.size = Number(file.#response.headers.get("Content-Length") ?? Number.NaN);
    } else {
      file.#response = response;
    }
    return file;
  }

  /** All its bytes. `onBytes` is told how many have arrived since the last call. */
  async read({ pieces, onBytes, signal }) {
    if (this.#response) {
      return this.#stream(onBytes, signal);
    }
    const content = new Uint8Array(this.size);
    content.set(this.#opening);
    onBytes(this.#opening.length);
    for (let start = this.#opening.length; start < this.size; ) {
      signal.throwIfAborted();
      const end = Math.min(start + PIECE, this.size);
      const bytes = await this.#piece(start, end, pieces, signal);
      content.set(bytes, start);
      onBytes(bytes.length);
      start = end;
    }
    await this.#keeping;
    return content;
  }

  async #piece(start, end, pieces, signal) {
    const kept = this.#version && (await pieces.get(this.#address, start, this.#version));
    if (kept?.length === end - start) {
      return kept;
    }
    const bytes = await persistently(this.#address, signal, async () => {
      const response = await request(this.#address, { start, end }, signal);
      const part = contentRange(response);
      if (part?.start !== start || part.total !== this.size || version(response) !== this.#version) {
        throw new Problem(`${this.#address} changed while it was downloaded.`, "Load it again.");
      }
      const arrived = new Uint8Array(await response.arrayBuffer());
      if (arrived.length !== end - start) {
        throw new TypeError(`${arrived.length} bytes came instead of ${end - start}`);
      }
      return arrived;
    });
    if (this.#version) {
      await this.#keeping; // one at a time: no more memory than that
      this.#keeping = pieces.put(this.#address, start, this.#version, bytes);
    }
    return bytes;
  }

  /** From a server that sends no parts: nothing can be kept of what breaks off. */
  async #stream(onBytes, signal) {
    const parts = [];
    let length = 0;
    const reader = this.#response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) {
          break;
        }
        parts.push(value);
        length += value.length;
        onBytes(value.length);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw broken(this.#address, error);
    }
    if (length < this.size) {
      throw broken(this.#address, new TypeError(`${length} of ${this.size} bytes came`));
    }
    const content = new Uint8Array(length);
    parts.reduce((start, part) => (content.set(part, start), start + part.length), 0);
    return content;
  }
}

/** A response that is usable, or says that there is no such file. */
function request(address, part, signal) {
  const headers = part ? { Range: `bytes=${part.start}-${part.end - 1}` } : {};
  return persistently(address, signal, async () => {
    const response = await fetch(address, { headers, signal, cache: "no-store", credentials: "omit" });
    if (response.status === 401) {
      throw new Problem(`${address}: its server asks who you are.`, "Download the folder yourself and drop it here.");
    }
    if (response.status === 429 || response.status >= 500) {
      throw new TypeError(`the server answered ${response.status}`);
    }
    return response;
  });
}

/** Repeats what failed on the way, a few times. */
async function persistently(address, signal, attempt) {
  for (let failures = 0; ; failures += 1) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TypeError)) {
        throw error;
      }
      if (failures === PAUSES.length) {
        throw broken(address, error);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSES[failures]));
    }
  }
}

function broken(address, error) {
  return new Problem(
    `${address} did not arrive: ${error.message}.`,
    "Its server may be out of reach, or not let other pages read it (CORS). Load it again to go on where it ended, " +
      "or download the folder yourself and drop it here.",
  );
}

/** Some servers answer with a page whatever is asked for. */
function isPage(response) {
  return response.headers.get("Content-Type")?.startsWith("text/html") ?? false;
}

/** What changes whenever the file does; empty if the server does not say. */
function version(response) {
  return response.headers.get("ETag") ?? response.headers.get("Last-Modified") ?? "";
}

function contentRange(response) {
  const found = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
  return found && { start: Number(found[1]), total: Number(found[2]) };
}
