// One file behind an address, in pieces: kept as they arrive, tried again when the connection breaks.

import { LARGEST } from "./layout.js";
import { SMALLER, checkSize } from "./local.js";
import { Problem, megabytes } from "../problem.js";

const OPENING = 1 << 16; // what a first request asks for: most settings are smaller, so that one is enough
const PIECE = 1 << 22;
const PAUSES = [500, 1500, 4000]; // milliseconds before an attempt is repeated
const ABSENT = [403, 404, 410];
const EMPTY = 416; // none of the bytes that were asked for, the first among them
const WHOLE = 200;
const PARTIAL = 206;
const BY_HAND = "Download the folder yourself and drop it here.";

export class RemoteFile {
  #address;
  #opening; // its first bytes
  #response; // the whole, still arriving, from a server that sends no parts
  #version;
  #keeping = Promise.resolve(); // the last piece, while it is stored

  /** The file, or null if there is none; its opening has arrived then, and its size is known if the server tells it. */
  static open(address, signal) {
    return persistently(address, signal, async () => {
      const response = await request(address, { start: 0, end: OPENING }, signal);
      if (ABSENT.includes(response.status) || isPage(response)) {
        response.body?.cancel();
        return null;
      }
      const file = new RemoteFile();
      file.#address = address;
      file.#version = version(response);
      const part = contentRange(response);
      if (response.status === EMPTY) {
        file.size = 0;
        file.#opening = new Uint8Array();
      } else if (response.status === PARTIAL && part && !response.headers.has("Content-Encoding")) {
        file.size = part.total;
        file.#opening = await firstPart(address, part, response);
      } else if (response.status === PARTIAL) {
        response.body?.cancel(); // a part whose place another origin may not see
        file.#response = await request(address, null, signal);
        if (file.#response.status !== WHOLE) {
          throw refused(file.#response, address);
        }
      } else {
        file.#response = response;
      }
      file.size ??= contentLength(file.#response);
      return file;
    });
  }

  /** All its bytes. `onBytes` is told how many have arrived since the last call. */
  async read({ pieces, onBytes, signal }) {
    checkSize(this.size, this.#address);
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
        response.body?.cancel();
        throw new Problem(`${this.#address} changed while it was downloaded.`, "Load it again.");
      }
      const arrived = await received(response, end - start);
      if (arrived?.length !== end - start) {
        throw new TypeError(`${arrived?.length ?? "more"} bytes came instead of ${end - start}`);
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
    const content = await received(this.#response, LARGEST, onBytes).catch((error) => {
      signal.throwIfAborted();
      throw broken(this.#address, error);
    });
    if (!content) {
      throw new Problem(`${this.#address} has more than the ${megabytes(LARGEST)} that a tab can hold.`, SMALLER);
    }
    if (content.length < this.size) {
      throw broken(this.#address, new TypeError(`${content.length} of ${this.size} bytes came`));
    }
    return content;
  }
}

/** A response's bytes; null, and no more of them are awaited, if there are more than the limit. */
async function received(response, limit, onBytes = () => {}) {
  const parts = [];
  let length = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    length += value.length;
    if (length > limit) {
      reader.cancel();
      return null;
    }
    parts.push(value);
    onBytes(value.length);
  }
  const content = new Uint8Array(length);
  parts.reduce((start, part) => (content.set(part, start), start + part.length), 0);
  return content;
}

/** The bytes of a file's first part, if they are those that the server says they are. */
async function firstPart(address, { start, end, total }, response) {
  const fits = start === 0 && end <= Math.min(total, OPENING);
  const content = await received(response, fits ? end : 0);
  if (content?.length !== end) {
    throw new Problem(`${address}: its server sent another part than was asked for.`, BY_HAND);
  }
  return content;
}

/** A response that holds bytes, or says that there are none. */
function request(address, part, signal) {
  const headers = part ? { Range: `bytes=${part.start}-${part.end - 1}` } : {};
  return persistently(address, signal, async () => {
    const response = await fetch(address, { headers, signal, cache: "no-store", credentials: "omit" });
    if (response.status === 401) {
      throw new Problem(`${address}: its server asks who you are.`, BY_HAND);
    }
    if (response.status === 429 || response.status >= 500) {
      throw new TypeError(`the server answered ${response.status}`);
    }
    if (![WHOLE, PARTIAL, EMPTY, ...ABSENT].includes(response.status)) {
      throw refused(response, address);
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

function refused(response, address) {
  response.body?.cancel();
  return new Problem(
    `${address}: its server answered ${response.status}.`,
    "Open that address in another tab to see why, or download the folder yourself and drop it here.",
  );
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

/** How long a whole file is; NaN if that is unknown, as is whether another origin's answer is compressed. */
function contentLength(response) {
  const isPlain = response.type === "basic" && !response.headers.has("Content-Encoding");
  return isPlain ? Number(response.headers.get("Content-Length") ?? Number.NaN) : Number.NaN;
}

function contentRange(response) {
  const found = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
  return found && { start: Number(found[1]), end: Number(found[2]) + 1, total: Number(found[3]) };
}
