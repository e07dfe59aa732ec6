/* The picture that is looked at: photograph, heat, scale, and the place under the pointer. */

gapcam.picture = (() => {
  const data = gapcam.data;
  const { index } = data;
  const { map, cam, largest } = gapcam.evidence;
  const { byId, named, percent, plain, label, element } = gapcam.format;
  const { drawHeat, drawPhoto } = gapcam.drawing;
  const { drawBar } = gapcam.color;
  const { chosen } = gapcam.classes;
  const { isWrong } = gapcam.filter;
  const place = gapcam.place;
  const state = gapcam.state;

  const [stage, photo, heat, note] = ["stage", "photo", "heat-canvas", "note"].map(byId);
  const view = { number: null, picture: null, values: null, hovered: null, limit: 1 };

  /* Where the color scale ends, and in words whose it is. */
  function scaleOf(values, { evidence, scale }) {
    if (scale === "picture") return [largest(values) || 1, "this picture's own scale"];
    if (evidence === "posterior") return [1, "one scale for all pictures"];
    return [index.drawing.vmax, "one scale for all pictures"];
  }

  /* What the heat stands for: words, and classes as numbers. */
  function drawnWords({ class: own, against, evidence }) {
    const words = {
      logit: ["Evidence for ", own],
      contrast: ["Evidence for ", own, " over ", against],
      margin: ["Where ", own, " leads all others"],
      posterior: ["Probability of ", own, " by each place alone"],
    };
    return words[evidence];
  }

  function showDrawn(asked) {
    const parts = drawnWords(asked).map((part) => (typeof part === "number" ? named(label(part)) : part));
    byId("drawn").replaceChildren(...parts);
  }

  function showScale({ evidence, colormap }, words) {
    const isSigned = evidence !== "posterior";
    drawBar(byId("bar"), colormap, isSigned);
    const format = isSigned ? (value) => plain(value, 1) : percent;
    const low = isSigned ? -view.limit : 0;
    byId("low").textContent = format(low);
    byId("middle").textContent = format((low + view.limit) / 2);
    byId("high").textContent = format(view.limit);
    const beyond = largest(view.values) > view.limit * 1.0005 ? `; reaches ${format(largest(view.values))}` : "";
    byId("scale-note").textContent = `${isSigned ? "logits" : "probability of the place"}, ${words}${beyond}`;
  }

  /* Say which map that is asked for is not there. */
  function showMissing({ class: own, against }) {
    const { classes } = view.picture;
    const missing = cam(view.picture, own) ? against : own;
    const kept = `of this picture the maps of ${classes.length} of ${index.labels.length} classes are.`;
    note.replaceChildren("The map of ", named(label(missing)), ` was not kept: ${kept}`);
  }

  /* Show, or not, all that belongs to a map. */
  function allow(isKept) {
    byId("legend").hidden = byId("save-picture").disabled = !isKept;
    heat.hidden = state.current.heat === "off" || !isKept;
  }

  function draw() {
    const current = state.current;
    view.values = map(view.picture, chosen(current));
    note.hidden = view.values !== null;
    allow(view.values !== null);
    if (!view.values) {
      showMissing(chosen(current));
      return;
    }
    showDrawn(chosen(current));
    heat.style.opacity = current.opacity;
    const [limit, words] = scaleOf(view.values, current);
    view.limit = limit;
    const { colormap, threshold } = current;
    drawHeat(heat, view.values, view.picture, { limit, colormap, signed: current.evidence !== "posterior", threshold });
    showScale(current, words);
  }

  function showPlace() {
    const { pin } = state.current;
    const pinned = pin !== null && pin < view.picture.places;
    place.show(view.picture, pinned ? pin : view.hovered, chosen(state.current), view.values, pinned);
  }

  function showName({ name, path }) {
    byId("name").replaceChildren(named(name));
    byId("name").title = path;
  }

  function showHeading(row) {
    const [c, , probability] = row.top[0];
    showName(row);
    byId("verdict").replaceChildren(named(label(c), "name"), ` ${percent(probability)}`);
    if (row.truth !== null) {
      const wrong = () => element("span", "wrong", " \u2260 ", named(label(row.truth)));
      byId("verdict").append(isWrong(row) ? wrong() : element("span", "right", " \u2713"));
    }
    const { kind, classes } = view.picture;
    const all = `${index.labels.length} classes, right to 0.0005 logits`;
    const kept = {
      features: `the features that give the maps of all ${all}.`,
      classes: `the maps of all ${all}.`,
      some:
        `the maps of ${classes?.length} of ${all}: the strongest at any place, then those with the largest logits. ` +
        "Margin and posterior are over all.",
    };
    byId("kept").textContent = `Kept of this picture: ${kept[kind]}`;
  }

  /* Get the evidence of the chosen picture, and show it unless another was chosen meanwhile. */
  async function open() {
    const number = state.current.picture;
    const picture = await data.evidence(number).catch((error) => {
      if (number === state.current.picture) showNothing(error.message);
    });
    if (!picture || number !== state.current.picture) return;
    Object.assign(view, { number, picture, hovered: null });
    for (const canvas of [photo, heat]) {
      [canvas.width, canvas.height] = [picture.image.naturalWidth, picture.image.naturalHeight];
    }
    stage.style.setProperty("--ratio", photo.width / photo.height);
    drawPhoto(photo, picture.image, picture.seen);
    showHeading(index.pictures[number]);
    showChosen();
    document.documentElement.dataset.shown = number;
    performance.mark("shown");
    prefetch(number);
  }

  /* Leave nothing of another picture under the name of one that cannot be shown. */
  function showNothing(why) {
    Object.assign(view, { number: null, picture: null, values: null, hovered: null });
    for (const canvas of [photo, heat]) canvas.width = 0;
    allow(false);
    for (const id of ["verdict", "chips", "place-title", "place", "sums"]) byId(id).replaceChildren();
    showName(index.pictures[state.current.picture]);
    note.hidden = byId("marker").hidden = byId("why").hidden = true;
    byId("kept").textContent = why;
  }

  function showChosen() {
    gapcam.classes.show(view.picture);
    draw();
    place.showSums(view.picture, chosen(state.current));
    showPlace();
  }

  /* Those before and behind in the list will most likely be next. */
  function prefetch(number) {
    const order = gapcam.list.listed();
    const position = order.indexOf(number);
    const neighbors = position < 0 ? [] : [order[position + 1], order[position - 1]];
    setTimeout(async () => {
      for (const next of neighbors) if (next !== undefined) await data.evidence(next).catch(() => {});
    }, 60);
  }

  /* Whether the picture that is chosen is the one in sight: another may be on its way. */
  const isThere = () => view.number === state.current.picture;

  /* Move the place that is looked at by cells. */
  function step(down, right) {
    if (!isThere()) return;
    const [h, w] = [view.picture.rows.length, view.picture.columns.length];
    const from = state.current.pin ?? view.hovered ?? Math.floor(h / 2) * w + Math.floor(w / 2);
    const row = Math.min(h - 1, Math.max(0, Math.floor(from / w) + down));
    const column = Math.min(w - 1, Math.max(0, (from % w) + right));
    view.hovered = row * w + column;
    if (state.current.pin !== null) state.set({ pin: view.hovered });
    else showPlace();
  }

  function pin() {
    if (!isThere()) return;
    const { hovered } = view;
    const isOther = hovered !== null && hovered !== state.current.pin;
    state.set({ pin: state.current.pin === null || isOther ? hovered : null });
  }

  function follow(event) {
    if (!isThere()) return;
    const { left, top, width, height } = stage.getBoundingClientRect();
    view.hovered = place.at(view.picture, (event.clientX - left) / width, (event.clientY - top) / height);
    if (state.current.pin === null) showPlace();
  }

  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerleave", () => {
    view.hovered = null;
    if (isThere()) showPlace();
  });
  stage.addEventListener("click", (event) => {
    follow(event);
    pin();
  });

  state.listen((current, changed) => {
    if (changed.has("picture")) {
      byId("save-picture").disabled = true; // until the picture is there
      open();
    } else if (isThere()) {
      const drawn = ["class", "against", "evidence", "opacity", "heat", "threshold", "scale", "colormap"];
      if (drawn.some((key) => changed.has(key))) showChosen();
      else if (changed.has("pin")) showPlace();
    }
  });

  return { view, step, pin, drawnWords };
})();
