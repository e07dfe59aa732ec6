/* What is looked at, and how: one object, kept in the address behind the #, so that a link shows the same. */

gapcam.state = (() => {
  const WRITTEN = 350; // milliseconds: Safari refuses to write the address over 100 times in 30 seconds

  const { index, addresses } = gapcam.data;

  const number = (low, high) => (text) => {
    const value = Number(text);
    return text !== "" && value >= low && value <= high ? value : undefined;
  };
  const whole = (high) => (text) => (/^\d+$/.test(text) && Number(text) < high ? Number(text) : undefined);
  const oneOf = (...words) => (text) => (words.includes(text) ? text : undefined);
  const switched = oneOf("on", "off");
  const anyClass = whole(index.labels.length);
  const numbers = new Map(addresses.map((name, number) => [name, number]));

  /* Of each key what it is at first, and how its text is read: undefined where it cannot be right. */
  const keys = {
    view: ["pictures", oneOf("pictures", "summary")],
    picture: [0, (text) => numbers.get(text)],
    class: [null, anyClass], // null: the predicted one
    evidence: ["logit", oneOf("logit", "contrast", "margin", "posterior")],
    against: [null, anyClass], // null: the true class of an error, else the runner-up
    pin: [null, whole(1e6)],
    heat: ["on", switched],
    opacity: [index.drawing.opacity, number(0, 1)],
    threshold: [0, number(0, 1)],
    scale: [index.drawing.scale, oneOf("run", "picture")],
    colormap: [index.drawing.colormap, oneOf(...Object.keys(index.drawing.colormaps))],
    text: ["", String],
    show: ["all", oneOf("all", "wrong", "right")],
    margin: [null, number(0, 1e9)],
    of: [null, anyClass], // only pictures predicted as this class, or that show it
    pair: [null, oneOf(...index.summary.pairs.map(({ truth, predicted }) => `${truth}>${predicted}`))],
    sort: ["input", oneOf("input", "confidence", "margin", "completeness", "border")],
    order: ["up", oneOf("up", "down")],
    summary: [null, anyClass], // null: all classes
  };
  const listeners = [];
  let waiting;
  const current = Object.fromEntries(Object.entries(keys).map(([key, [initial]]) => [key, initial]));

  function toHash(state) {
    const words = new URLSearchParams();
    for (const [key, [initial]] of Object.entries(keys)) {
      if (key === "picture") words.set(key, addresses[state.picture]);
      else if (state[key] !== initial) words.set(key, state[key]);
    }
    return `#${words}`;
  }

  function fromHash(hash) {
    const words = new URLSearchParams(hash.replace(/^#/, ""));
    return Object.fromEntries(
      Object.entries(keys).map(([key, [initial, read]]) => [
        key,
        (words.has(key) ? read(words.get(key)) : undefined) ?? initial,
      ]),
    );
  }

  /* Take over some of it; all who listen are told which keys are other than before. */
  function take(changes) {
    const changed = new Set(Object.keys(changes).filter((key) => changes[key] !== current[key]));
    Object.assign(current, changes);
    if (changed.size) for (const listener of listeners) listener(current, changed);
  }

  function write() {
    clearTimeout(waiting);
    history.replaceState(null, "", toHash(current));
  }

  /* Change some of it, and write it into the address; the browser's Back leads to what was in sight before. */
  function set(changes) {
    const isOther = ["view", "summary"].some((key) => key in changes && changes[key] !== current[key]);
    if (isOther) {
      write();
      history.pushState(null, "", toHash({ ...current, ...changes }));
    }
    take(changes);
    clearTimeout(waiting);
    waiting = setTimeout(write, WRITTEN);
  }

  /* Listen to changes, and be told everything at the start. */
  function listen(listener) {
    listeners.push(listener);
  }

  function start() {
    Object.assign(current, fromHash(location.hash));
    addEventListener("hashchange", () => take(fromHash(location.hash)));
    for (const listener of listeners) listener(current, new Set(Object.keys(keys)));
  }

  /* What some keys are at first. */
  const initial = (names) => Object.fromEntries(names.map((name) => [name, keys[name][0]]));

  /* Look at another picture, from its predicted class. */
  function open(picture) {
    set({ picture, class: null, against: null, pin: null, view: "pictures" });
  }

  return { current, set, listen, start, open, initial, toHash };
})();
