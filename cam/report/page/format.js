/* Formats numbers and names, and makes elements: text from data is never markup. */

gapcam.format = (() => {
  const { index } = gapcam.data;

  const signed = (value, digits = 3) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
  const plain = (value, digits = 3) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits);
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  /* A score in short: its probability, or the value itself where it has none. */
  const score = (probability, logit) => (probability === null ? plain(logit, 2) : percent(probability));

  /* A text from data in one line: line breaks and marks that change the writing direction are written out. */
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
  const spelled = (mark) => `[U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;
  const visible = (text) => text.replace(HIDDEN, spelled);

  const label = (c) => index.labels[c];
  /* The label with the index, since labels may repeat. */
  const searchable = (c) => `${c} ${visible(index.labels[c])}`;

  const labels = index.labels.map((name) => name.toLowerCase());
  const classesWhere = (test) => labels.flatMap((name, c) => (test(name) ? [c] : []));

  /* The classes that a text names: by a number, as label or index, or else all whose label contains it. */
  function findClasses(text) {
    const query = text.trim().toLowerCase();
    if (!query) return [];
    const [digits] = /^\d+\b/.exec(query) ?? [];
    const exact = digits ? classesWhere((name) => name === query) : [];
    if (exact.length) return exact;
    return Number(digits) < labels.length ? [Number(digits)] : classesWhere((name) => name.includes(query));
  }

  /* The class that a text names by label, index or part of a label; null for no text, undefined if ambiguous. */
  function findClass(text) {
    const query = text.trim().toLowerCase();
    if (!query) return null;
    const exact = classesWhere((name) => name === query);
    const found = exact.length ? exact : findClasses(query);
    return found.length === 1 ? found[0] : undefined;
  }

  const pictures = (count) => `${count} picture${count === 1 ? "" : "s"}`;

  const byId = (id) => document.getElementById(id);

  /* Make an element; strings become text. */
  function element(name, className = "", ...content) {
    const node = document.createElement(name);
    if (className) node.className = className;
    node.append(...content);
    return node;
  }

  /* A name from data; bdi isolates its writing direction. */
  const named = (text, className = "") => element("bdi", className, visible(text));

  /* Mark a control as invalid, or as valid if there is no message. */
  function markInvalid(control, message = "") {
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    control.setCustomValidity(message);
    if (message) control.reportValidity();
  }

  const noClass = (text) => `"${text}" matches no class, or several. Choose one from the list.`;

  /* A name where no element is possible; Unicode marks isolate its writing direction. */
  const isolated = (text) => `\u2068${visible(text)}\u2069`;

  /* The text of an element, with its names isolated. */
  const textOf = (node) =>
    [...node.childNodes].map((part) => (part.localName === "bdi" ? isolated : String)(part.textContent)).join("");

  const numbers = { signed, plain, percent, score, pictures };
  const classes = { label, searchable, findClass, findClasses, noClass };
  return { ...numbers, ...classes, visible, isolated, textOf, byId, element, named, markInvalid };
})();
