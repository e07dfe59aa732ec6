/* The list of pictures. */

gapcam.list = (() => {
  const { index, preview, addressOf } = gapcam.data;
  const { byId, element, named, percent, score, pictures, plain, label, visible } = gapcam.format;
  const { listed, isWrong, leadOf, keys } = gapcam.filter;
  const state = gapcam.state;

  const IMAGE = 56; // side in pixels, as in list.css

  /* Whether the prediction is right. */
  function verdict(row) {
    if (row.truth === null) return "";
    if (!isWrong(row)) return element("span", "right", "\u2713 true");
    return element("span", "wrong", "\u2260 ", named(label(row.truth)));
  }

  /* The value that the list is sorted by, unless the row shows it already. */
  function sortValue(row) {
    const { sort } = state.current;
    if (sort === "self_confidence" && row.self_confidence !== null) return percent(row.self_confidence);
    if (sort === "margin") return `lead ${plain(leadOf(row), 2)}`;
    if (sort === "border") return `border ${percent(row.border)}`;
    if (sort === "completeness") return `error ${row.completeness.toExponential(1)}`;
    return "";
  }

  function make(number) {
    const row = index.pictures[number];
    const image = element("img");
    image.alt = "";
    preview(number).then(({ thumbnail }) => (image.src = addressOf(thumbnail)), () => {});
    const [c, logit, probability] = row.top[0];
    const texts = element(
      "span",
      "texts",
      element("span", "prediction", named(label(c)), element("span", "number", score(probability, logit))),
      element("span", "truth", verdict(row), element("span", "number", sortValue(row))),
      element("span", "path", named(row.name)),
    );
    image.classList.toggle("pixelated", Math.max(...row.size) < IMAGE);
    const item = element("div", isWrong(row) ? "row is-wrong" : "row", image, texts);
    item.title = visible(row.path);
    return item;
  }

  /* Open the file itself in a new tab, if it is still there. */
  function openOriginal(number) {
    const { original } = index.pictures[number];
    if (original) window.open(original, "_blank", "noopener");
  }

  function open(number) {
    state.open(number);
    side.hidePopover();
  }

  const [box, side] = [byId("list"), byId("side")];
  const move = (number) => (state.current.view === "summary" ? state.open : state.select)(number);
  const list = gapcam.scroller(box, { make, width: Infinity, height: 64, move, click: open, enter: openOriginal });
  byId("rows").addEventListener("dblclick", (event) => {
    if (!gapcam.selection.isMeant(event)) openOriginal(state.current.picture);
  });

  side.addEventListener("toggle", ({ newState }) => {
    if (newState !== "open") return;
    list.reveal();
    if (!side.contains(document.activeElement)) box.focus(); // the key / goes to the search
  });
  matchMedia("(max-width: 800px)").addEventListener("change", () => side.hidePopover()); // a drawer on phones only

  /* Rebuild the list; scroll to the current picture, or to the top. If that is no longer listed, show the one at a
     position. */
  function refill(scrollToPicture, position = 0) {
    const order = listed(state.current);
    byId("pictures").classList.toggle("no-match", !order.length);
    list.refill(order);
    const total = index.pictures.length;
    byId("unfiltered").hidden = order.length === total;
    const failed = index.failed.length ? `; ${index.failed.length} failed` : "";
    byId("count").textContent = `${order.length === total ? "" : `${order.length} of `}${pictures(total)}${failed}`;
    const isListed = order.includes(state.current.picture);
    if (order.length && !isListed) state.select(order[Math.min(position, order.length - 1)]);
    if (scrollToPicture) list.reveal();
    else box.scrollTop = 0;
  }

  state.listen((current, changed) => {
    if (changed.has("matches")) {
      const order = list.order();
      if (listed(current).join() !== order.join()) refill(true, Math.max(0, order.indexOf(current.picture)));
    } else if (keys.some((key) => changed.has(key))) refill(changed.has("picture"));
    else if (changed.has("picture") || changed.has("view")) list.reveal();
  });

  return { step: list.step, listed: list.order, verdict, openOriginal };
})();
