// What goes wrong, in two sentences: what it is, and what to do about it.

export class Problem extends Error {
  /** @param {string} message @param {string} [advice] */
  constructor(message, advice = "") {
    super(message);
    this.name = "Problem";
    this.advice = advice;
  }
}

/** Whether the visitor, or newer input, ended it. */
export function isAbort(error) {
  return error?.name === "AbortError";
}

export function megabytes(bytes) {
  const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
  return bytes < 1e6 ? `${number(bytes / 1e3)} kB` : `${number(bytes / 1e6)} MB`;
}
