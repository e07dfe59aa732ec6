/* Tags and notes of pictures. A page from the disk cannot write, so they are downloaded, and uploaded later. */

gapcam.notes = (() => {
  const { index } = gapcam.data;
  const { byId, element, named, pictures, visible, isolated } = gapcam.format;
  const { state, selection } = gapcam;

  const VERSION = 1;
  const paths = new Set(index.pictures.map(({ path }) => path));
  const notes = new Map(); // path -> tags and note; from a file also those of pictures that are not in this run
  let isSaved = true;

  const [box, tags, note, file, status] = ["notes", "tags", "note-text", "notes-file", "notes-status"].map(byId);
  const get = (path) => notes.get(path) ?? { tags: [], note: "" };

  /* The tags and the note of a picture. */
  const of = (number) => get(index.pictures[number].path);

  function put(path, entry) {
    if (entry.tags.length || entry.note.trim()) notes.set(path, entry);
    else notes.delete(path);
  }

  const unique = (values) => [...new Set(values)];
  const parseTags = (text) => unique(text.split(",").map((tag) => visible(tag.trim())).filter(Boolean));

  /* Add tags and a note to those of a picture; nothing is added twice. */
  function add(path, entry) {
    const mine = get(path);
    const both = [mine.note, entry.note];
    const whole = both.find((text) => both.every((part) => text.includes(part)));
    put(path, { tags: unique([...mine.tags, ...entry.tags]), note: whole ?? both.join("\n") });
  }

  /* What is written of the current picture, in a line. */
  function showLine() {
    const entry = of(state.current.picture);
    const texts = [entry.tags.join(", "), entry.note.trim().replace(/\s+/g, " ")].filter(Boolean);
    box.classList.toggle("written", texts.length > 0);
    byId("notes-line").replaceChildren(...texts.flatMap((text, n) => [n ? "; " : ": ", named(text)]));
  }

  function show() {
    const entry = of(state.current.picture);
    tags.value = entry.tags.join(", ");
    note.value = entry.note;
    showLine();
  }

  function setUnsaved() {
    isSaved = false;
    status.textContent = "Not downloaded yet";
  }

  /* The search also finds notes; not while they are written, since another picture may take the place of this one. */
  function search() {
    if (state.current.text) state.recheck("text");
  }

  function edit() {
    put(index.pictures[state.current.picture].path, { tags: parseTags(tags.value), note: note.value });
    setUnsaved();
    showLine();
  }

  function tagSelected() {
    const added = parseTags(byId("selected-tag").value);
    if (!added.length) return;
    for (const number of selection.all()) add(index.pictures[number].path, { tags: added, note: "" });
    byId("selected-tag").value = "";
    byId("selection-status").textContent = `Tagged ${pictures(selection.all().length)}`;
    setUnsaved();
    show();
    search();
  }

  /* Offer the tags in use, after those already in the field. */
  function suggest({ target }) {
    const start = /^.*,/.exec(target.value)?.[0] ?? "";
    const used = unique([...notes.values()].flatMap((entry) => entry.tags)).sort();
    const left = used.filter((tag) => !parseTags(start).includes(tag));
    const values = left.map((tag) => (start ? `${start} ${tag}` : tag));
    byId("used-tags").replaceChildren(...values.map((value) => Object.assign(element("option"), { value })));
  }

  function save() {
    const entries = [...notes].sort(([a], [b]) => (a < b ? -1 : 1));
    const content = { "gapcam notes": VERSION, pictures: Object.fromEntries(entries) };
    const text = `${JSON.stringify(content, null, 2)}\n`;
    gapcam.save.download(new Blob([text], { type: "application/json" }), "notes.json");
    isSaved = true;
    status.textContent = "";
  }

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isText = (value) => typeof value === "string";
  const isEntry = (value) =>
    isObject(value) && Array.isArray(value.tags ?? []) && [...(value.tags ?? []), value.note ?? ""].every(isText);

  /* The entries of a file; an Error says what is wrong with it. */
  function parse(bytes) {
    let content;
    try {
      content = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      throw new Error("it is not JSON in UTF-8");
    }
    if (!isObject(content?.pictures) || !("gapcam notes" in content)) throw new Error("it has no notes of gapcam");
    if (content["gapcam notes"] !== VERSION) throw new Error("it is for another version of gapcam");
    return Object.entries(content.pictures).map(([path, entry]) => {
      if (!isEntry(entry)) throw new Error(`tags or note of ${isolated(path)} are not text`);
      const lines = (entry.note ?? "").replace(/\r\n?/g, "\n"); // as in the field
      return [path, { tags: parseTags((entry.tags ?? []).join(",")), note: lines }];
    });
  }

  async function load() {
    const [chosen] = file.files;
    if (!chosen) return;
    try {
      const entries = parse(await chosen.arrayBuffer());
      for (const [path, entry] of entries) add(path, entry);
      const found = entries.filter(([path]) => paths.has(path)).length;
      const rest = entries.length - found;
      const unknown = rest ? `, ${rest} path${rest === 1 ? " is" : "s are"} not in this run` : "";
      status.textContent = `Notes of ${pictures(found)} read${unknown}`;
      show();
      search();
    } catch (error) {
      status.textContent = `${visible(chosen.name)} was not read: ${error.message}. Nothing has changed.`;
    }
    file.value = ""; // the same file can be chosen again
  }

  for (const field of [tags, note]) field.addEventListener("input", edit);
  tags.addEventListener("change", show); // as they were understood
  for (const field of [tags, byId("selected-tag")]) {
    for (const event of ["focus", "input"]) field.addEventListener(event, suggest);
  }
  box.addEventListener("focusout", ({ relatedTarget }) => {
    if (!box.contains(relatedTarget) && document.hasFocus()) search();
  });
  byId("tag-selected").addEventListener("click", tagSelected);
  byId("save-notes").addEventListener("click", save);
  byId("load-notes").addEventListener("click", () => file.click());
  file.addEventListener("change", load);
  addEventListener("beforeunload", (event) => {
    if (!isSaved) event.preventDefault();
  });
  state.listen((_, changed) => {
    if (changed.has("picture")) show();
  });

  return { of };
})();
