// Pieces of downloaded files in the browser's cache. A file is whole when all its pieces are: nothing else says so, so a
// download that was cut short is never taken for a whole one, and goes on where it ended.

const NAME = "chandelier-pieces-1";

export class Pieces {
  #cache;

  /** Never fails: `problem` says why nothing can be kept, if so. */
  static async open() {
    const pieces = new Pieces();
    pieces.problem = null;
    try {
      if (!globalThis.caches || !globalThis.crypto?.subtle) {
        throw new Error("browsers keep things for secure pages only (https, or this machine's own)");
      }
      pieces.#cache = await caches.open(NAME);
    } catch (error) {
      pieces.problem = reason(error);
    }
    return pieces;
  }

  /** A piece of that version of a file, or null if it is not here as it came. */
  async get(url, start, version) {
    try {
      const found = await this.#cache?.match(key(url, start));
      if (!found || found.headers.get("x-version") !== version) {
        return null;
      }
      const bytes = new Uint8Array(await found.arrayBuffer());
      return (await digest(bytes)) === found.headers.get("x-sha256") ? bytes : null;
    } catch {
      return null; // what cannot be read is fetched again
    }
  }

  /** Keeps a piece; after the first that cannot be kept none is tried. */
  async put(url, start, version, bytes) {
    if (this.problem) {
      return;
    }
    try {
      const headers = { "x-version": version, "x-sha256": await digest(bytes) };
      await this.#cache.put(key(url, start), new Response(bytes, { headers }));
    } catch (error) {
      this.problem = reason(error);
    }
  }

  /** So many bytes are kept. */
  async size() {
    try {
      const kept = await this.#cache?.matchAll();
      const sizes = await Promise.all((kept ?? []).map(async (piece) => (await piece.blob()).size));
      return sizes.reduce((sum, size) => sum + size, 0);
    } catch {
      return 0;
    }
  }

  /** Deletes all that is kept. */
  async forget() {
    await caches.delete(NAME);
    this.#cache = await caches.open(NAME);
    this.problem = null;
  }
}

function key(url, start) {
  const address = new URL(url);
  address.searchParams.set("chandelier-piece", String(start));
  return address.href;
}

async function digest(bytes) {
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function reason(error) {
  return error.name === "QuotaExceededError" ? "its storage is full" : error.message || error.name;
}
