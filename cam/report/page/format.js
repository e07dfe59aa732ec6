/* Numbers and names as they are read, and elements made of them: texts are texts, never markup. */

gapcam.format = (() => {
  const { index } = gapcam.data;

  const signed = (value, digits = 3) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
  const plain = (value, digits = 3) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits);
  const percent = (value) => `${(100 * value).toFixed(1)} %`;

  /* A class as it is shown. */
  const label = (c) => index.labels[c];
  /* A class as it is searched: labels may be alike, indices are not. */
  const searchable = (c) => `${c} ${index.labels[c]}`;

  function classNamed(text) {
    const words = text.trim().toLowerCase();
    if (!words) return null;
    const labels = index.labels.map((each) => each.toLowerCase());
    const exact = labels.flatMap((each, c) => (each === words ? [c] : []));
    if (exact.length) return exact.length === 1 ? exact[0] : undefined; // of several none is meant more than the others
    const numbered = /^(\d+)\b/.exec(words);
    if (numbered && Number(numbered[1]) < labels.length) return Number(numbered[1]);
    const found = labels.flatMap((each, c) => (each.includes(words) ? [c] : []));
    return found.length === 1 ? found[0] : undefined;
  }

  const pictures = (count) => `${count} picture${count === 1 ? "" : "s"}`;

  const byId = (id) => document.getElementById(id);

  /* An element with classes and content; strings become text. */
  function element(name, className = "", ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  /* A name from data, in its own direction. */
  const named = (text, className = "") => element("bdi", className, text);

  /* Say what is wrong with what a control holds; nothing where all is right. */
  function complain(control, message = "") {
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    control.setCustomValidity(message);
    if (message) control.reportValidity();
  }

  const noClass = (text) => `"${text}" is the name of no class, or of several. Choose one of the list.`;

  /* The same where there can be no element: between marks of Unicode. */
  const isolated = (text) => `\u2068${text}\u2069`;

  const words = { signed, plain, percent, pictures, label, searchable, classNamed, isolated, noClass };
  return { ...words, byId, element, named, complain };
})();
