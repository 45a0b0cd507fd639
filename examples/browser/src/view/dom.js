// Elements. Strings become text nodes, so that no text is ever read as HTML.

/** An element with attributes (`on...` are listeners, false and null are left out) and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      made.addEventListener(name.slice(2), value);
    } else if (name.startsWith("--")) {
      made.style.setProperty(name, value);
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

const live = byId("live");
let pending = 0;

/** Tells a screen reader, after a pause, so that typing is not talked over. */
export function announce(text) {
  clearTimeout(pending);
  pending = setTimeout(() => (live.textContent = text), 700);
}

/** "1 token", "2 tokens". */
export function count(number, thing) {
  return `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
}

/** Shows how far something is, or hides it for null; without a part it is only said to go on.
 *
 * @param {HTMLElement} place holds a `<progress>` and a `<span>`
 * @param {{text: string, part?: number} | null} progress
 */
export function showProgress(place, progress) {
  place.hidden = !progress;
  if (!progress) {
    return;
  }
  place.querySelector("span").textContent = progress.text;
  const bar = place.querySelector("progress");
  if (Number.isFinite(progress.part)) {
    bar.value = progress.part;
  } else {
    bar.removeAttribute("value");
  }
}
