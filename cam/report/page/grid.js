/* The grid: thumbnails with heat for the predicted class, in the order of the list. */

(() => {
  const { index, preview, decode, unpack } = gapcam.data;
  const { byId, element, named, score, label, visible } = gapcam.format;
  const { peak } = gapcam.evidence;
  const { drawHeat, drawPhoto } = gapcam.drawing;
  const { isWrong, keys } = gapcam.filter;
  const { verdict, listed } = gapcam.list;
  const state = gapcam.state;

  const HEIGHT = 112; // of a photograph in pixels, at most, as in grid.css
  const scale = () => state.scaleOf({ ...state.current, evidence: "logit" });

  async function draw(number, photo, heat) {
    const shown = await preview(number);
    const [image, values] = await Promise.all([decode(shown.thumbnail), unpack(shown.map)]);
    for (const canvas of [photo, heat]) [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    drawPhoto(photo, image, shown.seen);
    const { colormap, threshold } = state.current;
    const vmax = scale() === "picture" ? peak(values) || 1 : index.drawing.vmax;
    drawHeat(heat, values, shown, { vmax, colormap, threshold });
  }

  function make(number) {
    const row = index.pictures[number];
    const [photo, heat] = [element("canvas", "photo"), element("canvas", "heat")];
    draw(number, photo, heat).catch(() => {});
    const shot = element("span", "shot", photo, heat);
    shot.style.setProperty("--ratio", row.size[1] / row.size[0]);
    const [c, logit, probability] = row.top[0];
    const texts = element(
      "span",
      "texts",
      element("span", "prediction", named(label(c))),
      element("span", "truth", verdict(row), element("span", "number", score(probability, logit))),
    );
    const tile = element("div", isWrong(row) ? "tile is-wrong" : "tile", element("span", "frame", shot), texts);
    photo.classList.toggle("pixelated", row.size[0] < HEIGHT);
    tile.title = visible(row.path);
    return tile;
  }

  const box = byId("tiles");
  const { select } = state;
  const tiles = gapcam.scroller(box, { make, width: 132, height: 200, move: select, click: open, enter: open });

  /* Open a picture, and give its photograph the keyboard. */
  function open(number) {
    state.open(number);
    byId("stage").focus();
  }

  function showNote() {
    const colors = state.current.colormap === "signed" ? ": warm speaks for it, cold against it" : "";
    const scaleName = scale() === "picture" ? "each on its own scale" : "same scale for all pictures";
    const method = index.method ? ` by ${index.method.name}` : "";
    byId("grid-note").textContent = `Evidence for the predicted class${method}${colors}; ${scaleName}.`;
  }

  state.listen((current, changed) => {
    if (current.view !== "grid") return;
    const isNew = changed.has("view") || keys.some((key) => changed.has(key));
    const isRedrawn = ["colormap", "threshold", "scale"].some((key) => changed.has(key));
    box.style.setProperty("--opacity", current.opacity);
    box.classList.toggle("gray", current.heat === "on" && index.drawing.photo !== "color");
    box.classList.toggle("plain", current.heat === "off");
    if (isNew || isRedrawn) {
      showNote();
      tiles.refill(listed());
    }
    if (["view", "picture", "matches"].some((key) => changed.has(key))) tiles.reveal();
    else if (isNew) box.scrollTop = 0;
  });
})();
