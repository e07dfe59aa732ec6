/* The list of pictures: only the rows in sight exist. */

gapcam.list = (() => {
  const { index, thumbnail } = gapcam.data;
  const { byId, element, named, percent, pictures, plain, label } = gapcam.format;
  const { listed, isWrong, marginOf, keys } = gapcam.filter;
  const state = gapcam.state;

  const HEIGHT = 64; // pixels a row, as in list.css
  const SPARE = 4; // rows above and below those in sight

  const [box, rows, count] = ["list", "rows", "count"].map(byId);
  const made = new Map(); // position in the list -> element
  let order = [];

  function verdict(row) {
    if (row.truth === null) return "";
    if (!isWrong(row)) return element("span", "right", "\u2713 true class");
    return element("span", "wrong", "\u2260 ", named(label(row.truth)));
  }

  /* What the list is sorted by, where the row would not show it. */
  function measured(row) {
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
    const [c, , probability] = row.top[0];
    const texts = element(
      "span",
      "texts",
      element("span", "prediction", named(label(c)), element("span", "number", percent(probability))),
      element("span", "truth", verdict(row), element("span", "number", measured(row))),
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

  /* Make the rows that are in sight, and let go of the others. */
  function show() {
    const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(order.length, Math.ceil((box.scrollTop + box.clientHeight) / HEIGHT) + SPARE);
    for (const [position, button] of made) {
      const inSight = position >= first && position < last;
      if (inSight || button === document.activeElement) continue; // which keys go on from
      button.remove();
      made.delete(position);
    }
    for (let position = last - 1; position >= first; position--) {
      if (made.has(position)) continue;
      const button = make(position);
      made.set(position, button);
      rows.insertBefore(button, made.get(position + 1) ?? null); // so that Tab goes through them downwards
    }
  }

  /* List anew, from the top unless a picture was chosen as well. */
  function refill(chosen) {
    order = listed(state.current);
    rows.style.height = `${order.length * HEIGHT}px`;
    rows.replaceChildren();
    made.clear();
    const all = index.pictures.length;
    const failed = index.failed.length ? `; ${index.failed.length} not explained` : "";
    count.textContent = `${order.length === all ? "" : `${order.length} of `}${pictures(all)}${failed}`;
    byId("nothing").hidden = order.length > 0;
    if (chosen) reveal();
    else box.scrollTop = 0;
    show();
  }

  /* Scroll as little as it takes for the chosen picture to be in sight. */
  function reveal() {
    const position = order.indexOf(state.current.picture);
    if (position < 0) return;
    const top = position * HEIGHT;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + HEIGHT - box.clientHeight;
  }

  /* Open the picture so many places further down the list. */
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
    if (matchMedia("(max-width: 800px)").matches) byId("center").scrollIntoView(); // which lies below the list there
  });

  state.listen((current, changed) => {
    if (keys.some((key) => changed.has(key))) refill(changed.has("picture"));
    else if (changed.has("picture") || changed.has("view")) {
      reveal();
      show();
      made.forEach(mark);
    }
  });

  return { step, listed: () => order };
})();
