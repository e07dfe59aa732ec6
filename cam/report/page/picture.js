/* The open picture: photograph, heat, color scale, and the cell under the pointer. */

gapcam.picture = (() => {
  const data = gapcam.data;
  const { index } = data;
  const { map, cam, peak, methodOf } = gapcam.evidence;
  const { byId, named, score, plain, label, element, visible } = gapcam.format;
  const { drawHeat, drawPhoto } = gapcam.drawing;
  const { selection } = gapcam.classes;
  const { isWrong } = gapcam.filter;
  const cell = gapcam.cell;
  const state = gapcam.state;

  const [stage, photo, heat, note] = ["stage", "photo", "heat-canvas", "note"].map(byId);
  const GRAY = "grayscale(1) contrast(0.76)"; // as in cam/drawing/overlay.py: black is 0.12, white 0.88
  const view = { number: null, picture: null, values: null, hovered: null, vmax: 1 };

  /* Say which map is not stored. */
  function showMissing({ class: target, against }) {
    const { classes } = view.picture;
    const missing = cam(view.picture, target) ? against : target;
    const reason = index.method ? ", because the head is run again for each" : "";
    const stored = `this picture has the maps of ${classes.length} of ${index.labels.length} classes${reason}.`;
    note.replaceChildren("The map of ", named(label(missing)), ` is not stored: ${stored}`);
  }

  /* Show or hide everything that needs a map. */
  function setMapVisible(hasMap) {
    byId("legend").hidden = byId("save-picture").disabled = !hasMap;
    heat.hidden = state.current.heat === "off" || !hasMap;
    photo.style.filter = heat.hidden || index.drawing.photo === "color" ? "" : GRAY;
  }

  function draw() {
    const current = state.current;
    view.values = map(view.picture, selection(current));
    note.hidden = view.values !== null;
    setMapVisible(view.values !== null);
    if (!view.values) {
      showMissing(selection(current));
      return;
    }
    heat.style.opacity = current.opacity;
    const [vmax, scaleName] = gapcam.legend.rangeOf(view.values, current);
    view.vmax = vmax;
    const { colormap, threshold } = current;
    drawHeat(heat, view.values, view.picture, { vmax, colormap, threshold });
    const notes = [scaleName, methodOf(view.picture, selection(current))].filter(Boolean).join("; ");
    gapcam.legend.show(selection(current), current, vmax, notes);
    showLargest();
  }

  function showCell() {
    const { pin } = state.current;
    const pinned = pin !== null && pin < view.picture.cells;
    cell.show(view.picture, pinned ? pin : view.hovered, selection(state.current), view.values, pinned);
  }

  function showName({ name, path, original }) {
    const link = Object.assign(element("a", "", named(name)), { target: "_blank", rel: "noopener" });
    if (original) link.href = original;
    byId("name").replaceChildren(link);
    byId("name").title = visible(path);
  }

  function showHeading(row) {
    const [c, logit, probability] = row.top[0];
    showName(row);
    stage.style.setProperty("--ratio", row.size[1] / row.size[0]);
    byId("verdict").replaceChildren(named(label(c), "name"), ` ${score(probability, logit)}`);
    if (row.truth !== null) {
      const wrong = () => element("span", "wrong", " \u2260 ", named(label(row.truth)));
      byId("verdict").append(isWrong(row) ? wrong() : element("span", "right", " \u2713"));
    }
  }

  /* A picture smaller than its view shows its pixels. */
  function showPixels() {
    photo.classList.toggle("pixelated", index.pictures[state.current.picture].size[1] < stage.clientWidth);
  }

  /* Technical remarks on what is stored of the picture. */
  function showStored() {
    const { kind, classes } = view.picture;
    const all = `${index.labels.length} classes`;
    const some = `the maps of ${classes?.length} of ${all}: `;
    const chosen = "those explained, the predicted five, and the true one, because the head is run again for each. ";
    const stored = {
      features: `the features for the maps of all ${all}.`,
      all: `the maps of all ${all}.`,
      selected: index.method
        ? `${some}${chosen}The table of a cell compares these classes.`
        : `${some}the strongest at any cell, then the largest logits. Margin and posterior use all classes.`,
    };
    byId("remarks").hidden = false;
    byId("stored").textContent = `Stored for this picture: ${stored[kind]}`;
  }

  /* Say how far the map goes beyond the ends of the color scale. */
  function showLargest() {
    const largest = peak(view.values);
    const isBeyond = largest > view.vmax * 1.0005;
    byId("largest").hidden = !isBeyond;
    byId("largest").textContent = `The largest cell, ${plain(largest, 1)}, is beyond the end of the color scale.`;
  }

  /* Load the evidence of the picture, and show it unless the user went on to another. */
  async function open() {
    const number = state.current.picture;
    const picture = await data.evidence(number).catch((error) => {
      if (number === state.current.picture) showError(error.message);
    });
    if (!picture || number !== state.current.picture) return;
    Object.assign(view, { number, picture, hovered: null });
    for (const canvas of [photo, heat]) {
      [canvas.width, canvas.height] = [picture.image.naturalWidth, picture.image.naturalHeight];
    }
    drawPhoto(photo, picture.image, picture.seen);
    showHeading(index.pictures[number]);
    showPixels();
    showStored();
    showSelection();
    document.documentElement.dataset.shown = number;
    performance.mark("shown");
    prefetch(number);
  }

  /* Clear everything of the earlier picture, and show why this one cannot be shown, but still its classes. */
  function showError(message) {
    Object.assign(view, { number: null, picture: null, values: null, hovered: null });
    for (const canvas of [photo, heat]) canvas.width = 0;
    setMapVisible(false);
    gapcam.answer.clear();
    for (const id of ["cell-title", "cell", "sums"]) byId(id).replaceChildren();
    showHeading(index.pictures[state.current.picture]);
    gapcam.classes.show(null);
    byId("marker").hidden = byId("why").hidden = byId("remarks").hidden = true;
    note.hidden = false;
    note.textContent = visible(message);
  }

  function showSelection() {
    gapcam.classes.show(view.picture);
    draw();
    gapcam.answer.show(index.pictures[view.number], view.picture, selection(state.current), view.values);
    cell.showSums(view.picture, selection(state.current));
    showCell();
  }

  /* Load the neighbors in the list, which will most likely be next. */
  function prefetch(number) {
    const order = gapcam.list.listed();
    const position = order.indexOf(number);
    const neighbors = position < 0 ? [] : [order[position + 1], order[position - 1]];
    setTimeout(async () => {
      for (const next of neighbors) if (next !== undefined) await data.evidence(next).catch(() => {});
    }, 60);
  }

  /* False while the picture of the state is still loading. */
  const isLoaded = () => view.number === state.current.picture;

  /* Move the marker by cells. */
  function step(down, right) {
    if (!isLoaded()) return;
    const [h, w] = [view.picture.rows.length, view.picture.columns.length];
    const from = state.current.pin ?? view.hovered ?? Math.floor(h / 2) * w + Math.floor(w / 2);
    const row = Math.min(h - 1, Math.max(0, Math.floor(from / w) + down));
    const column = Math.min(w - 1, Math.max(0, (from % w) + right));
    view.hovered = row * w + column;
    if (state.current.pin !== null) state.set({ pin: view.hovered });
    else showCell();
  }

  function pin() {
    if (!isLoaded()) return;
    const { hovered } = view;
    const isNew = hovered !== null && hovered !== state.current.pin;
    state.set({ pin: state.current.pin === null || isNew ? hovered : null });
  }

  function follow(event) {
    if (!isLoaded()) return;
    const { left, top, width, height } = stage.getBoundingClientRect();
    view.hovered = cell.cellAt(view.picture, (event.clientX - left) / width, (event.clientY - top) / height);
    if (state.current.pin === null) showCell();
  }

  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerleave", () => {
    view.hovered = null;
    if (isLoaded()) showCell();
  });
  stage.addEventListener("click", (event) => {
    follow(event);
    pin();
  });
  stage.addEventListener("dblclick", () => gapcam.list.openOriginal(state.current.picture));
  new ResizeObserver(showPixels).observe(stage);

  state.listen((current, changed) => {
    if (changed.has("picture")) {
      byId("save-picture").disabled = true; // until the picture is loaded
      open();
    } else if (isLoaded()) {
      const keys = ["class", "against", "evidence", "opacity", "heat", "threshold", "scale", "colormap"];
      if (keys.some((key) => changed.has(key))) showSelection();
      else if (changed.has("pin")) showCell();
    }
  });

  return { view, step, pin };
})();
