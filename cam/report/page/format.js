/* Formats numbers and names, and makes elements: text from data is never markup. */

gapcam.format = (() => {
  const { index } = gapcam.data;

  const signed = (value, digits = 3) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
  const plain = (value, digits = 3) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits);
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  /* A score in short: its probability, or the value itself where it has none. */
  const score = (probability, logit) => (probability === null ? plain(logit, 2) : percent(probability));

  const label = (c) => index.labels[c];
  /* The label with the index, since labels may repeat. */
  const searchable = (c) => `${c} ${index.labels[c]}`;

  /* The class that a text names by label, index or part of a label; null for no text, undefined if ambiguous. */
  function findClass(text) {
    const query = text.trim().toLowerCase();
    if (!query) return null;
    const labels = index.labels.map((name) => name.toLowerCase());
    const exact = labels.flatMap((name, c) => (name === query ? [c] : []));
    if (exact.length) return exact.length === 1 ? exact[0] : undefined;
    const numbered = /^(\d+)\b/.exec(query);
    if (numbered && Number(numbered[1]) < labels.length) return Number(numbered[1]);
    const matches = labels.flatMap((name, c) => (name.includes(query) ? [c] : []));
    return matches.length === 1 ? matches[0] : undefined;
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
  const named = (text, className = "") => element("bdi", className, text);

  /* Mark a control as invalid, or as valid if there is no message. */
  function markInvalid(control, message = "") {
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    control.setCustomValidity(message);
    if (message) control.reportValidity();
  }

  const noClass = (text) => `"${text}" matches no class, or several. Choose one from the list.`;

  /* A name where no element is possible; Unicode marks isolate its writing direction. */
  const isolated = (text) => `\u2068${text}\u2069`;

  /* The text of an element, with its names isolated. */
  const textOf = (node) =>
    [...node.childNodes].map((part) => (part.localName === "bdi" ? isolated : String)(part.textContent)).join("");

  const texts = { signed, plain, percent, score, pictures, label, searchable, findClass, isolated, textOf, noClass };
  return { ...texts, byId, element, named, markInvalid };
})();
