// Texts as a reader should see them.

/** Control characters become their pictures, and what would turn the direction of all that follows a replacement
 * character: one for one, so that places stay true. */
export function visible(text) {
  return text
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (found) => String.fromCharCode(0x2400 + found.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u202d\u202e]/g, "\ufffd");
}

/** The first so many characters, no pair of surrogates cut through. */
export function sameText(text, length) {
  const cut = text.slice(0, length);
  return /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}

/** What a reader calls a token: the text it stands for, or else the token itself; never nothing. */
export function label(text, span, token) {
  const words = span ? text.slice(...span) : token;
  return visible(words).trim() || "␣";
}

export function percent(share, digits = 0) {
  const text = `${(100 * share).toFixed(digits)} %`;
  return /[1-9]/.test(text) ? text : text.replace("-", "");
}
