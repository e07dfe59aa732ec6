/* The pictures that the user selects. */

gapcam.selection = (() => {
  const { byId } = gapcam.format;
  const state = gapcam.state;

  let selected = new Set(); // numbers of pictures
  const listeners = [];

  const has = (number) => selected.has(number);
  const all = () => [...selected].sort((a, b) => a - b);

  /* Call a function after every change. */
  const listen = (listener) => listeners.push(listener);

  function set(numbers) {
    selected = new Set(numbers);
    if (!selected.size) state.set({ selected: "off" });
    else if (state.current.selected === "on") state.recheck("selected");
    for (const listener of listeners) listener();
  }

  const add = (numbers) => set([...selected, ...numbers]);
  const toggle = (number) => (has(number) ? set(all().filter((other) => other !== number)) : add([number]));

  /* True if a click selects pictures instead of opening one. */
  const isMeant = ({ ctrlKey, metaKey, shiftKey }) => ctrlKey || metaKey || shiftKey;

  function show() {
    byId("selection").classList.toggle("empty", !selected.size);
    byId("selected-count").textContent = selected.size ? `${selected.size} selected` : "";
  }

  listen(show);
  show();
  byId("select-all").addEventListener("click", () => add(gapcam.list.listed()));
  byId("select-none").addEventListener("click", () => set([]));
  byId("selected-only").addEventListener("change", ({ target }) => {
    state.set({ selected: target.checked ? "on" : "off" });
  });
  state.listen((current) => (byId("selected-only").checked = current.selected === "on"));

  return { has, all, listen, set, add, toggle, isMeant };
})();
