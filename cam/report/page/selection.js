/* The pictures that the user selects, and a file of their paths. */

gapcam.selection = (() => {
  const { index } = gapcam.data;
  const { byId, pictures } = gapcam.format;
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
    byId("selection-status").textContent = "";
    byId("selected-this").checked = has(state.current.picture);
  }

  /* The bytes of a path: Python writes those that are not UTF-8 as lone surrogates. */
  const bytesOf = (path) =>
    path.split(/([\udc80-\udcff])/u).map((part, n) => (n % 2 ? Uint8Array.of(part.charCodeAt(0) - 0xdc00) : part));

  /* Save the paths for `cam explain --list`: one a line or, if a path has line breaks, each with a NUL at its end. */
  function saveList() {
    const rows = all().map((number) => index.pictures[number]);
    const files = rows.filter(({ path, original }) => original || !/\.(zip|tar)[\\/]/i.test(path));
    const paths = files.map(({ path }) => path.replace(/^(?=PK|[^!-~])/, "./")); // not taken for blank, a mark or a zip
    const end = paths.some((path) => /[\r\n]/.test(path)) ? "\0" : "\n";
    const blob = new Blob(paths.flatMap((path) => [...bytesOf(path), end]), { type: "text/plain" });
    if (paths.length) gapcam.save.download(blob, "selection.txt");
    const left = rows.length - files.length;
    const reason = "in an archive, which a list cannot name: give cam explain the archive, with --pattern";
    byId("selection-status").textContent = left ? `Without ${pictures(left)} ${reason}.` : "";
  }

  listen(show);
  byId("select-all").addEventListener("click", () => add(gapcam.list.listed()));
  byId("select-none").addEventListener("click", () => set([]));
  byId("selected-only").addEventListener("change", ({ target }) => {
    state.set({ selected: target.checked ? "on" : "off" });
  });
  byId("selected-this").addEventListener("change", () => toggle(state.current.picture));
  byId("save-list").addEventListener("click", saveList);
  state.listen((current, changed) => {
    byId("selected-only").checked = current.selected === "on";
    if (changed.has("picture")) show();
  });

  return { has, all, listen, set, add, toggle, isMeant };
})();
