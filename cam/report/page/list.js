/* The list of pictures; only rows in view exist. */

gapcam.list = (() => {
  const { index, thumbnail } = gapcam.data;
  const { byId, element, named, percent, score, pictures, plain, label } = gapcam.format;
  const { listed, isWrong, marginOf, keys } = gapcam.filter;
  const state = gapcam.state;

  const HEIGHT = 64; // pixels a row, as in list.css
  const SPARE = 4; // rows above and below the view

  const [box, rows, count] = ["list", "rows", "count"].map(byId);
  const elements = new Map(); // position in the list -> row
  let order = [];

  function verdict(row) {
    if (row.truth === null) return "";
    if (!isWrong(row)) return element("span", "right", "\u2713 true class");
    return element("span", "wrong", "\u2260 ", named(label(row.truth)));
  }

  /* The value that the list is sorted by, unless the row shows it already. */
  function sortValue(row) {
    const { sort } = state.current;
    if (sort === "margin") return `margin ${plain(marginOf(row), 2)}`;
    if (sort === "border") return `border ${percent(row.border)}`;
    if (sort === "completeness") return `error ${row.completeness.toExponential(1)}`;
    return "";
  }

  function make(position) {
    const number = order[position];
    const row = index.pictures[number];
    const image = element("img");
    image.alt = "";
    thumbnail(number).then((address) => (image.src = address), () => {});
    const [c, logit, probability] = row.top[0];
    const texts = element(
      "span",
      "texts",
      element("span", "prediction", named(label(c)), element("span", "number", score(probability, logit))),
      element("span", "truth", verdict(row), element("span", "number", sortValue(row))),
      element("span", "path", named(row.name)),
    );
    const button = element("button", isWrong(row) ? "row is-wrong" : "row", image, texts);
    button.type = "button";
    button.style.top = `${position * HEIGHT}px`;
    button.title = row.path;
    button.dataset.number = number;
    mark(button);
    return button;
  }

  function mark(button) {
    if (Number(button.dataset.number) === state.current.picture) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }

  /* Make the rows in view, and remove the others. */
  function show() {
    const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(order.length, Math.ceil((box.scrollTop + box.clientHeight) / HEIGHT) + SPARE);
    for (const [position, button] of elements) {
      const inView = position >= first && position < last;
      if (inView || button === document.activeElement) continue; // Tab continues from the focused row
      button.remove();
      elements.delete(position);
    }
    for (let position = last - 1; position >= first; position--) {
      if (elements.has(position)) continue;
      const button = make(position);
      elements.set(position, button);
      rows.insertBefore(button, elements.get(position + 1) ?? null); // in order, for Tab
    }
  }

  /* Rebuild the list; scroll to the selected picture, or to the top. */
  function refill(scrollToPicture) {
    order = listed(state.current);
    rows.style.height = `${order.length * HEIGHT}px`;
    rows.replaceChildren();
    elements.clear();
    const total = index.pictures.length;
    const failed = index.failed.length ? `; ${index.failed.length} failed` : "";
    count.textContent = `${order.length === total ? "" : `${order.length} of `}${pictures(total)}${failed}`;
    byId("nothing").hidden = order.length > 0;
    if (scrollToPicture) reveal();
    else box.scrollTop = 0;
    show();
  }

  /* Scroll the selected picture into view. */
  function reveal() {
    const position = order.indexOf(state.current.picture);
    if (position < 0) return;
    const top = position * HEIGHT;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + HEIGHT - box.clientHeight;
  }

  /* Open the picture `by` rows further down the list. */
  function step(by) {
    if (!order.length) return;
    const position = order.indexOf(state.current.picture);
    const next = position < 0 ? 0 : Math.min(order.length - 1, Math.max(0, position + by));
    state.open(order[next]);
  }

  box.addEventListener("scroll", show, { passive: true });
  new ResizeObserver(show).observe(box);
  rows.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    state.open(Number(button.dataset.number));
    if (matchMedia("(max-width: 800px)").matches) byId("center").scrollIntoView(); // it is above the list
  });

  state.listen((current, changed) => {
    if (keys.some((key) => changed.has(key))) refill(changed.has("picture"));
    else if (changed.has("picture") || changed.has("view")) {
      reveal();
      show();
      elements.forEach(mark);
    }
  });

  return { step, listed: () => order };
})();
