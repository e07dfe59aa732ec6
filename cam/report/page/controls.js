/* Controls, each bound to one key of the state. */

(() => {
  const { index } = gapcam.data;
  const { byId, element, isolated, label, searchable, markInvalid } = gapcam.format;
  const { isReference } = gapcam.evidence;
  const state = gapcam.state;

  const LARGEST_FIRST = new Set(["completeness", "border"]); // the suspicious end comes first

  /* Bind a control to a key: `read` parses its text (undefined if invalid), `write` shows a value. */
  function bind(id, key, read = String, write = (value) => value ?? "", problem) {
    const control = byId(id);
    const event = ["range", "search", "number"].includes(control.type) ? "input" : "change";
    control.addEventListener(event, () => {
      const value = read(control.value);
      markInvalid(control, value === undefined ? problem(control.value) : "");
      if (value !== undefined) state.set({ [key]: value });
    });
    state.listen((current, changed) => {
      if (!changed.has(key)) return;
      markInvalid(control);
      if (document.activeElement !== control || event === "change") control.value = write(current[key]);
    });
  }

  const readNumber = (text) => (text === "" ? null : Number(text) >= 0 ? Number(text) : undefined);

  byId("classes").append(...index.labels.map((_, c) => Object.assign(element("option"), { value: searchable(c) })));
  byId("colormap").append(...Object.keys(index.drawing.colormaps).map((name) => element("option", "", name)));
  byId("confusion").append(
    ...index.summary.confusions.map(({ truth, predicted, count }) => {
      const text = `${isolated(label(truth))} taken for ${isolated(label(predicted))} (${count})`;
      return Object.assign(element("option", "", text), { value: `${truth}>${predicted}` });
    }),
  );

  byId("audit-filter").append(
    ...index.audit.groups.map(({ class_idx, place, members }, n) => {
      const text = `${isolated(label(class_idx))}, ${place} (${members.length})`;
      return Object.assign(element("option", "", text), { value: n });
    }),
  );

  bind("text", "text");
  bind("show", "show");
  bind("low-margin", "margin", readNumber, undefined, () => "Must be 0 or more logits.");
  bind("of", "of", (text) => text.trim());
  bind("confusion", "confusion", (text) => text || null);
  bind("audit-filter", "audit", (text) => (text === "" ? null : Number(text)));
  bind("sort", "sort");
  byId("sort").addEventListener("change", ({ target }) => {
    state.set({ order: LARGEST_FIRST.has(target.value) ? "down" : "up" });
  });
  bind("opacity", "opacity", Number);
  bind("threshold", "threshold", Number);
  bind("colormap", "colormap");
  byId("scale").addEventListener("change", ({ target }) => state.set({ scale: target.value }));

  const labeled = index.pictures.some(({ truth }) => truth !== null);
  for (const part of document.querySelectorAll(".needs-truth")) part.hidden = !labeled;
  for (const part of document.querySelectorAll(".needs-show")) part.hidden = !labeled && !index.audit.duplicates.length;
  for (const part of document.querySelectorAll(".needs-alike")) part.hidden = !index.audit.duplicates.length;
  for (const part of document.querySelectorAll(".needs-audit")) part.hidden = !index.audit.groups.length;
  for (const part of document.querySelectorAll(".needs-others")) part.hidden = index.labels.length < 2;
  for (const part of document.querySelectorAll(".needs-exact")) part.hidden = Boolean(index.method);
  for (const part of document.querySelectorAll(".needs-sum")) part.hidden = isReference;
  for (const part of document.querySelectorAll(".of-complete")) part.hidden = !index.method?.runs;
  for (const part of document.querySelectorAll(".of-reference")) part.hidden = !isReference;

  function toggle(id, key, [off, on]) {
    const button = byId(id);
    button.addEventListener("click", () => state.set({ [key]: state.current[key] === on ? off : on }));
    state.listen((current, changed) => {
      if (changed.has(key)) button.setAttribute("aria-pressed", current[key] === on);
    });
  }

  toggle("heat", "heat", ["off", "on"]);
  toggle("order", "order", ["up", "down"]);
  state.listen(({ order }) => {
    byId("order").textContent = order === "up" ? "\u2191 smallest first" : "\u2193 largest first";
  });

  byId("previous").addEventListener("click", () => gapcam.list.step(-1));
  byId("next").addEventListener("click", () => gapcam.list.step(1));

  for (const view of ["pictures", "grid", "summary"]) {
    byId(`view-${view}`).addEventListener("click", () => state.set({ view }));
    state.listen((current) => byId(`view-${view}`).setAttribute("aria-pressed", current.view === view));
  }
  state.listen(({ view }) => {
    byId("open-list").hidden = view === "summary";
    byId("summary").hidden = view !== "summary";
    byId("pictures").hidden = view === "summary"; // the list is next to the grid, too
    byId("center").hidden = byId("panel").hidden = view !== "pictures";
    byId("grid").hidden = view !== "grid";
  });

  byId("clear").addEventListener("click", () => {
    state.set(state.initial(gapcam.filter.keys));
    for (const id of ["text", "low-margin", "of"]) {
      byId(id).value = ""; // also invalid text, which is not in the state
      markInvalid(byId(id));
    }
  });

  state.listen((current) => {
    byId("opacity-value").textContent = `${Math.round(100 * current.opacity)} %`;
    byId("threshold-value").textContent = `${Math.round(100 * current.threshold)} %`;
    byId("scale").value = state.scaleOf(current);
  });
})();
