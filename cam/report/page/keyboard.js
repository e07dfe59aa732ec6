/* Keyboard shortcuts; off while the user types text. */

(() => {
  const { index } = gapcam.data;
  const { byId } = gapcam.format;
  const state = gapcam.state;

  const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  function showClass(n) {
    const entry = index.pictures[state.current.picture].top[n];
    if (entry) state.set({ class: entry[0] });
  }

  const toggleView = (view) => state.set({ view: state.current.view === view ? "pictures" : view });

  const keys = {
    j: () => gapcam.list.step(1),
    k: () => gapcam.list.step(-1),
    ArrowRight: () => gapcam.list.step(1),
    ArrowLeft: () => gapcam.list.step(-1),
    o: () => state.set({ heat: state.current.heat === "on" ? "off" : "on" }),
    c: () => {
      const isOn = state.current.evidence === "contrast" || !state.kinds.includes("contrast");
      state.set({ evidence: isOn ? "logit" : "contrast" });
    },
    x: () => {
      if (state.current.view !== "summary") gapcam.selection.toggle(state.current.picture);
    },
    g: () => toggleView("grid"),
    s: () => toggleView("summary"),
    "/": () => {
      if (state.current.view === "summary") state.set({ view: "pictures" });
      if (!byId("side").checkVisibility()) byId("side").showPopover();
      byId("text").focus();
    },
    "?": () => byId("help").showModal(),
    Escape: () => state.set({ pin: null }),
  };
  for (let n = 0; n < 5; n++) keys[n + 1] = () => showClass(n);

  function onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const { target, key } = event;
    if (target === byId("stage") && (ARROWS[key] || key === "Enter")) {
      if (key === "Enter") gapcam.picture.pin();
      else gapcam.picture.step(...ARROWS[key]);
      event.preventDefault();
      return;
    }
    if (target.matches("input, select, textarea")) {
      if (key === "Escape") target.blur();
      return;
    }
    const action = keys[key] || keys[key.toLowerCase()];
    if (!action) return;
    if (key !== "Escape") event.preventDefault(); // it also closes the drawer
    action();
  }

  document.addEventListener("keydown", onKey);
  byId("open-help").addEventListener("click", () => byId("help").showModal());
})();
