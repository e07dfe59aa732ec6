/* Items for many pictures in a scrolling box, of which only those in view exist. The box is one tab stop; arrow keys
   go through the pictures. */

gapcam.scroller = (box, { make, width, height, move, click, enter }) => {
  const { state, selection } = gapcam;
  const { element } = gapcam.format;

  const SPARE = Math.ceil(256 / height); // lines above and below the view
  const inner = box.firstElementChild;
  const items = new Map(); // position in the order -> element
  let order = [];
  let columns = 1;

  const columnsIn = () => Math.max(1, Math.floor(box.clientWidth / width));
  const lineOf = (position) => Math.floor(position / columns);

  function place(position) {
    const number = order[position];
    const item = make(number);
    item.id = `${box.id}-${number}`;
    item.dataset.number = number;
    const attributes = { role: "option", "aria-posinset": position + 1, "aria-setsize": order.length };
    for (const [name, value] of Object.entries(attributes)) item.setAttribute(name, value);
    Object.assign(item.style, {
      top: `${lineOf(position) * height}px`,
      left: `${(100 * (position % columns)) / columns}%`,
      width: `${100 / columns}%`,
      height: `${height}px`,
    });
    return item;
  }

  /* A check mark, with a word for screen readers. */
  const makeCheck = () => element("span", "check", element("span", "unseen", "selected"));

  /* Mark the current picture, also for screen readers, and those that the user selected. */
  function mark() {
    box.removeAttribute("aria-activedescendant");
    for (const item of items.values()) {
      const number = Number(item.dataset.number);
      const isSelected = number === state.current.picture;
      const check = item.querySelector(".check");
      if (!selection.has(number)) check?.remove();
      else if (!check) item.append(makeCheck());
      item.setAttribute("aria-selected", isSelected);
      if (isSelected) box.setAttribute("aria-activedescendant", item.id);
    }
  }

  /* Make the items in view, in order, and remove the others. */
  function show() {
    const first = Math.max(0, columns * (Math.floor(box.scrollTop / height) - SPARE));
    const lines = Math.ceil((box.scrollTop + box.clientHeight) / height) + SPARE;
    const last = box.clientHeight ? Math.min(order.length, columns * lines) : first; // none if hidden
    for (const [position, item] of items) {
      if (position >= first && position < last) continue;
      item.remove();
      items.delete(position);
    }
    for (let position = last - 1; position >= first; position--) {
      if (items.has(position)) continue;
      items.set(position, place(position));
      inner.insertBefore(items.get(position), items.get(position + 1) ?? null);
    }
    mark();
  }

  /* Make all items anew, in another order or size. */
  function refill(pictures = order) {
    order = pictures;
    columns = columnsIn();
    inner.style.height = `${(order.length ? lineOf(order.length - 1) + 1 : 0) * height}px`;
    inner.replaceChildren();
    items.clear();
    show();
  }

  /* Scroll the selected picture into view. */
  function reveal() {
    const position = order.indexOf(state.current.picture);
    const top = lineOf(position) * height;
    if (position < 0) return;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
    show();
  }

  /* Select the picture `by` positions further on, or the first one. */
  function step(by) {
    if (!order.length) return;
    const position = order.indexOf(state.current.picture);
    move(order[position < 0 ? 0 : Math.min(order.length - 1, Math.max(0, position + by))]);
  }

  const page = () => columns * Math.max(1, Math.floor(box.clientHeight / height));
  const steps = {
    ArrowUp: () => step(-columns),
    ArrowDown: () => step(columns),
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    PageUp: () => step(-page()),
    PageDown: () => step(page()),
    Home: () => step(-order.length),
    End: () => step(order.length),
    Enter: () => enter(state.current.picture),
  };
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !steps[event.key]) return;
    event.preventDefault();
    steps[event.key]();
  });

  /* Select a picture, or with Shift all from the current one to it. */
  function choose(number, isRange) {
    const [from, to] = [order.indexOf(state.current.picture), order.indexOf(number)].sort((a, b) => a - b);
    if (isRange) selection.add(order.slice(Math.max(0, from), to + 1));
    else selection.toggle(number);
    if (order.includes(number)) move(number); // else the filter no longer lists it
    box.focus();
  }

  inner.addEventListener("click", (event) => {
    const number = Number(event.target.closest("[data-number]")?.dataset.number ?? NaN);
    if (Number.isNaN(number)) return;
    if (selection.isMeant(event)) choose(number, event.shiftKey);
    else click(number);
  });
  inner.addEventListener("mousedown", (event) => {
    if (event.shiftKey) event.preventDefault(); // it would select text
  });
  box.addEventListener("scroll", show, { passive: true });
  selection.listen(mark);
  new ResizeObserver(() => (columnsIn() === columns ? show() : refill())).observe(box);

  return { refill, reveal, step, order: () => order };
};
