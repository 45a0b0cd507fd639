// A checkpoint behind the address of its folder.

import { RemoteFile } from "./download.js";
import { INDEX, MODULES, PICKLED, SETTINGS, WEIGHTS, join, moduleFolders, shards } from "./layout.js";
import { checkSize } from "./local.js";
import { Problem } from "../problem.js";

export class RemoteFolder {
  #base;
  #pieces;

  /** @param {string} address @param {import("./pieces.js").Pieces} pieces */
  constructor(address, pieces) {
    this.#base = folderAddress(address);
    this.#pieces = pieces;
    this.name = displayName(this.#base);
  }

  /** Every file's bytes by its path. */
  async read({ onProgress, signal }) {
    onProgress({ file: "its settings", done: 0, total: Number.NaN });
    const open = (path) => RemoteFile.open(new URL(path, this.#base).href, signal);
    const readNow = (file) => file.read({ pieces: this.#pieces, onBytes: () => {}, signal });
    const files = {};
    const readAll = async (paths) => {
      for (const [path, file] of await openAll(paths, open)) {
        files[path] = await readNow(file);
      }
    };

    await readAll([MODULES, ...SETTINGS]);
    const [transformer, ...others] = moduleFolders(files[MODULES]);
    await readAll([
      ...(transformer ? SETTINGS.map((name) => join(transformer, name)) : []),
      ...others.map((folder) => join(folder, "config.json")),
    ]);
    if (!files[join(transformer, "config.json")]) {
      throw new Problem(
        `There is no config.json at ${this.#base}.`,
        "Give the address of the folder that holds it, or of a repository on huggingface.co.",
      );
    }

    const weights = new Map();
    for (const folder of [transformer, ...others]) {
      await this.#openWeights(folder, open, readNow, files, weights);
    }
    const total = [...weights.values()].reduce((sum, file) => sum + file.size, 0);
    checkSize(total);
    let done = 0;
    for (const [path, file] of weights) {
      const onBytes = (count) => onProgress({ file: path, done: (done += count), total });
      onBytes(0);
      files[path] = await file.read({ pieces: this.#pieces, onBytes, signal });
    }
    return files;
  }

  /** A module's weights: one file, else its shards, else what torch pickled; many modules have none. */
  async #openWeights(folder, open, readNow, files, weights) {
    const whole = await open(join(folder, WEIGHTS));
    if (whole) {
      weights.set(join(folder, WEIGHTS), whole);
      return;
    }
    const index = await open(join(folder, INDEX));
    if (index) {
      files[join(folder, INDEX)] = await readNow(index);
      for (const [path, file] of await openAll(shards(folder, files[join(folder, INDEX)]), open)) {
        weights.set(path, file);
      }
      return;
    }
    const pickled = await open(join(folder, PICKLED));
    if (pickled) {
      weights.set(join(folder, PICKLED), pickled);
    }
  }
}

/** Those of the files that are there, all opened at once. */
async function openAll(paths, open) {
  const opened = await Promise.all(paths.map(async (path) => [path, await open(path)]));
  return opened.filter(([, file]) => file);
}

/** The folder's address with a slash at the end; that of a repository on Hugging Face becomes that of its files. */
function folderAddress(text) {
  let address;
  try {
    address = new URL(text, document.baseURI);
  } catch {
    address = null;
  }
  if (!text.trim() || !/^https?:$/.test(address?.protocol ?? "")) {
    throw new Problem(
      text.trim() ? `“${text}” is no address of a folder.` : "There is no address yet.",
      "It should look like “https://example.org/models/colbert/”.",
    );
  }
  address.hash = "";
  address.search = "";
  address.pathname = address.pathname.replace(/\/(config\.json|model\.safetensors)$/, "");
  const repository = /^\/([^/]+\/[^/]+)(?:\/(?:tree|blob|resolve)\/([^/]+))?\/?$/.exec(address.pathname);
  if (address.hostname === "huggingface.co" && repository) {
    address.pathname = `/${repository[1]}/resolve/${repository[2] ?? "main"}`;
  }
  address.pathname = address.pathname.replace(/\/*$/, "/");
  return address.href;
}

function displayName(address) {
  const { host, pathname } = new URL(address);
  const parts = pathname.split("/").filter(Boolean).map(decodeURIComponentSafely);
  if (host === "huggingface.co" && parts[2] === "resolve") {
    return parts.slice(0, 2).join("/");
  }
  return parts.at(-1) ?? host;
}

function decodeURIComponentSafely(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
