/* What the page shows, and how: one object, also in the address behind the #, so a link shows the same. */

gapcam.state = (() => {
  const DELAY = 350; // milliseconds: Safari allows 100 changes of the address in 30 seconds

  const { index, addresses } = gapcam.data;

  const number = (low, high) => (text) => {
    const value = Number(text);
    return text !== "" && value >= low && value <= high ? value : undefined;
  };
  const integer = (high) => (text) => (/^\d+$/.test(text) && Number(text) < high ? Number(text) : undefined);
  const oneOf = (...words) => (text) => (words.includes(text) ? text : undefined);
  const onOff = oneOf("on", "off");
  const anyClass = integer(index.labels.length);
  const numbers = new Map(addresses.map((name, number) => [name, number]));

  /* The kinds of evidence: a posterior needs probabilities, a comparison two classes, and both the scores of a single
     cell that only exact maps have. */
  const kinds = [
    "logit",
    ...(index.labels.length > 1 ? ["contrast"] : []),
    ...(index.labels.length > 1 && !index.method ? ["margin"] : []),
    ...(index.activation === "none" || index.method ? [] : ["posterior"]),
  ];

  /* Each key: the initial value, and how to parse its text (undefined if invalid). */
  const keys = {
    view: ["pictures", oneOf("pictures", "grid", "summary")],
    picture: [0, (text) => numbers.get(text)],
    class: [null, anyClass], // null: the predicted class
    evidence: ["logit", oneOf(...kinds)],
    against: [null, anyClass], // null: the true class of an error, or else the runner-up
    pin: [null, integer(1e6)],
    heat: ["on", onOff],
    opacity: [index.drawing.opacity, number(0, 1)],
    threshold: [0, number(0, 1)],
    scale: [null, oneOf("run", "picture")], // null: see scaleOf
    colormap: [index.drawing.colormap, oneOf(...Object.keys(index.drawing.colormaps))],
    text: ["", String],
    show: ["all", oneOf("all", "wrong", "right", "labels", "alike")],
    margin: [null, number(0, 1e9)],
    of: ["", String], // only pictures whose prediction or true class this text names
    confusion: [null, oneOf(...index.summary.confusions.map(({ truth, predicted }) => `${truth}>${predicted}`))],
    audit: [null, integer(index.audit.groups.length)], // a group that cam audit found
    selected: ["off", (text) => (gapcam.selection.all().length ? onOff(text) : undefined)], // only what is selected
    sort: ["input", oneOf("input", "confidence", "self_confidence", "margin", "completeness", "border")],
    order: ["up", oneOf("up", "down")],
    summary: [null, anyClass], // null: all classes
  };
  const listeners = [];
  let timer;
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

  /* Change keys, and tell the listeners which ones changed. */
  function update(changes) {
    const changed = new Set(Object.keys(changes).filter((key) => changes[key] !== current[key]));
    Object.assign(current, changes);
    if (changed.size) for (const listener of listeners) listener(current, changed);
  }

  /* Tell the listeners that other pictures than before pass the filter of a key. */
  function recheck(key) {
    for (const listener of listeners) listener(current, new Set([key, "matches"]));
  }

  function write() {
    clearTimeout(timer);
    history.replaceState(null, "", toHash(current));
  }

  /* Change keys, and the address soon after; Back returns to the earlier view. */
  function set(changes) {
    const isNewView = ["view", "summary"].some((key) => key in changes && changes[key] !== current[key]);
    if (isNewView) {
      write();
      history.pushState(null, "", toHash({ ...current, ...changes }));
    }
    update(changes);
    clearTimeout(timer);
    timer = setTimeout(write, DELAY);
  }

  /* Call a function on every change, and once at the start with all keys. */
  function listen(listener) {
    listeners.push(listener);
  }

  function start() {
    Object.assign(current, fromHash(location.hash));
    addEventListener("hashchange", () => update(fromHash(location.hash)));
    for (const listener of listeners) listener(current, new Set(Object.keys(keys)));
  }

  /* What the color scale is for; a contrast is much smaller than the logits that set the scale of the run. */
  const scaleOf = ({ scale, evidence }) => scale ?? (evidence === "contrast" ? "picture" : index.drawing.scale);

  /* Initial values of some keys. */
  const initial = (names) => Object.fromEntries(names.map((name) => [name, keys[name][0]]));

  /* Select a picture at its predicted class, without leaving the view or in the view of pictures. */
  const select = (picture, view = current.view) => set({ picture, class: null, against: null, pin: null, view });
  const open = (picture) => select(picture, "pictures");

  return { current, kinds, set, recheck, listen, start, select, open, initial, scaleOf, toHash };
})();
