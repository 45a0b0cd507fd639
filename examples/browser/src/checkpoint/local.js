// A checkpoint from the visitor's own disk: files that were chosen or dropped.

import { LARGEST, relevant, withoutCommonFolder } from "./layout.js";
import { Problem, megabytes } from "../problem.js";

export class LocalFolder {
  #files; // path -> File

  /** @param {{path: string, file: File}[]} entries */
  constructor(entries) {
    const paths = withoutCommonFolder(entries.map((entry) => entry.path));
    const wanted = new Set(relevant(paths));
    this.#files = new Map(
      paths.map((path, i) => [path, entries[i].file]).filter(([path]) => wanted.has(path)),
    );
    const shared = entries.length ? entries[0].path.slice(0, -paths[0].length) : "";
    this.name = shared.split("/").at(-2) ?? "your files";
  }

  /** Every file's bytes by its path; the files are read anew each time. */
  async read({ onProgress, signal }) {
    const files = [...this.#files];
    const total = files.reduce((sum, [, file]) => sum + file.size, 0);
    if (!files.length) {
      throw new Problem(
        "That is no checkpoint: none of its files is a config.json, a tokenizer.json or a .safetensors.",
        "Drop the whole folder, as it was saved or downloaded.",
      );
    }
    checkSize(total);
    const read = {};
    let done = 0;
    for (const [path, file] of files) {
      signal.throwIfAborted();
      onProgress({ file: path, done, total });
      try {
        read[path] = new Uint8Array(await file.arrayBuffer());
      } catch (error) {
        throw new Problem(
          `${path} could not be read: ${error.message}`,
          "It may have been moved or changed since you chose it. Choose it again.",
        );
      }
      done += file.size;
    }
    return read;
  }
}

export const SMALLER = "Take a smaller one, or one that was saved as float16 or bfloat16.";

/** Refuses what a tab cannot hold, before it is fetched. */
export function checkSize(bytes, what = "This checkpoint") {
  if (bytes > LARGEST) {
    throw new Problem(
      `${what} has ${megabytes(bytes)}, and a tab can hold ${megabytes(LARGEST)}.`,
      SMALLER,
    );
  }
}

/** The files of an `<input type=file>`. */
export function chosen(list) {
  return [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** The files of a drop, those in folders included. Must be called before the event is over. */
export function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => {
    const entry = item.webkitGetAsEntry?.();
    const file = item.getAsFile();
    return entry ? walk(entry) : Promise.resolve(file ? [{ path: file.name, file }] : []);
  });
  return Promise.all(found).then((lists) => lists.flat());
}

async function walk(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const children = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // some at a time
    if (!children.length) {
      return found;
    }
    found.push(...(await Promise.all(children.map(walk))).flat());
  }
}
