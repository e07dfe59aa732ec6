/* What many pictures have in common: of each class and of all the mean map, of each confusion the mean contrast. */

(() => {
  const { index, unpack } = gapcam.data;
  const { byId, element, named, percent, pictures, plain, label } = gapcam.format;
  const { largest } = gapcam.evidence;
  const { drawCells } = gapcam.drawing;
  const { drawBar } = gapcam.color;
  const state = gapcam.state;

  const PAIRS = 60; // shown as maps; all of them are among the filters
  const { all, classes, pairs } = index.summary;

  /* Draw a mean map on a canvas of its own scale, and say how far that goes. */
  function drawMean(canvas, values, columns) {
    const limit = largest(values) || 1;
    drawCells(canvas, values, columns, { limit, colormap: state.current.colormap });
    return limit;
  }

  /* How many pictures the model was how sure of: bars in twentieths. */
  function histogram(counts) {
    const most = Math.max(...counts, 1);
    const bars = counts.map((count, n) => {
      const bar = element("span");
      bar.style.height = `${(100 * count) / most}%`;
      bar.title = `${5 * n} to ${5 * (n + 1)} %: ${count}`;
      return bar;
    });
    return element("div", "histogram", ...bars);
  }

  const rightOf = ({ labeled, right }) => (labeled ? percent(right / labeled) : "\u2013");

  function row(group, c) {
    const name = c === null ? "all classes" : named(label(c));
    const button = element("button", "link", name);
    button.type = "button";
    button.addEventListener("click", () => state.set({ summary: c }));
    const cells = [group.count, rightOf(group), percent(group.border)];
    const numbers = cells.map((text) => element("td", "number", String(text)));
    const line = element("tr", "", element("th", "", button), ...numbers);
    line.dataset.class = c ?? "all";
    return line;
  }

  async function showGroup(c) {
    const group = c === null ? all : classes.find((each) => each.class === c);
    const [title, body] = [byId("group-title"), byId("group-text")];
    title.replaceChildren(c === null ? "All classes" : named(label(c)));
    byId("group-open").hidden = c === null;
    byId("group").classList.toggle("empty", !group);
    if (!group) {
      body.replaceChildren("No picture was predicted as this class.");
      return;
    }
    const [h, w] = group.map.shape;
    const even = 1 - (Math.max(0, h - 2) * Math.max(0, w - 2)) / (h * w);
    body.replaceChildren(
      `${pictures(group.count)}${c === null ? "" : " predicted so"}. Share of the positive evidence in the outermost ` +
        `cells: ${percent(group.border)}; evenly spread it would be ${percent(even)}.`,
    );
    byId("group-histogram").replaceChildren(histogram(group.histogram));
    const values = await unpack(group.map);
    if (c !== state.current.summary) return; // another was chosen meanwhile
    const limit = drawMean(byId("group-map"), values, group.map.shape[1]);
    drawBar(byId("group-bar"), state.current.colormap, true);
    byId("group-low").textContent = plain(-limit, 1);
    byId("group-high").textContent = plain(limit, 1);
  }

  function card(pair) {
    const canvas = element("canvas");
    const predicted = element("span", "", named(label(pair.predicted)));
    const text = element("span", "texts", predicted, element("span", "wrong", "\u2260 ", named(label(pair.truth))));
    const note = element("span", "path", pictures(pair.count));
    const button = element("button", "card", canvas, text, note);
    button.type = "button";
    button.addEventListener("click", () => {
      state.set({ ...state.initial(gapcam.filter.keys), pair: `${pair.truth}>${pair.predicted}`, view: "pictures" });
      const [first] = gapcam.list.listed();
      const question = { class: pair.predicted, against: pair.truth, evidence: "contrast" };
      state.set({ picture: first, pin: null, ...question });
    });
    showMean(canvas, pair, note);
    return button;
  }

  async function showMean(canvas, { map, maps, count }, note) {
    if (maps < count) note.append(maps ? `, map of ${maps}` : ", map not kept");
    if (!map) return;
    const limit = drawMean(canvas, await unpack(map), map.shape[1]);
    note.append(`, to \u00b1${limit.toFixed(1)}`);
  }

  function build() {
    byId("groups").replaceChildren(row(all, null), ...classes.map((group) => row(group, group.class)));
    byId("pairs").replaceChildren(...pairs.slice(0, PAIRS).map(card));
    const some = pairs.length > PAIRS ? `the ${PAIRS} most frequent of ` : "";
    byId("pairs-title").textContent = `Confusions: ${some}${pairs.length}`;
    byId("confusions").hidden = !pairs.length;
    byId("failures").hidden = !index.failed.length;
    byId("failures-title").textContent = `Not explained: ${index.failed.length}`;
    byId("failed").replaceChildren(
      ...index.failed.map(({ path, error }) => element("li", "", named(path), element("span", "path", named(error)))),
    );
  }

  byId("group-open").addEventListener("click", () => {
    state.set({ ...state.initial(gapcam.filter.keys), of: state.current.summary, view: "pictures" });
    state.open(gapcam.list.listed()[0]);
  });

  let built = "";
  state.listen((current, changed) => {
    if (current.view !== "summary") return;
    if (built !== current.colormap) build();
    if (built !== current.colormap || changed.has("summary") || changed.has("view")) showGroup(current.summary);
    built = current.colormap;
    for (const line of byId("groups").children) {
      line.toggleAttribute("aria-current", line.dataset.class === String(current.summary ?? "all"));
    }
  });
})();
