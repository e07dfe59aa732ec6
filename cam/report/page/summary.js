/* The summary: the mean map of all pictures and of each class, and the mean contrast of each confusion. */

(() => {
  const { index, unpack } = gapcam.data;
  const { byId, element, named, percent, pictures, plain, label, searchable } = gapcam.format;
  const { peak } = gapcam.evidence;
  const { drawCells } = gapcam.drawing;
  const { drawBar } = gapcam.color;
  const state = gapcam.state;

  const CARDS = 60; // most frequent confusions; the filter lists all
  const { all, classes, confusions } = index.summary;

  /* Draw a mean map up to its own peak, and return the peak. */
  function drawMean(canvas, values, columns) {
    const vmax = peak(values) || 1;
    drawCells(canvas, values, columns, { vmax, colormap: state.current.colormap });
    return vmax;
  }

  /* Bars of the number of pictures by probability, in steps of 5 %. */
  function histogram(counts) {
    const largest = Math.max(...counts, 1);
    const bars = counts.map((count, n) => {
      const bar = element("span");
      bar.style.height = `${(100 * count) / largest}%`;
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
    const group = c === null ? all : classes.find((entry) => entry.class === c);
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
    const border = `${percent(group.border)} (${percent(even)} if spread evenly)`;
    const count = `${pictures(group.count)}${c === null ? "" : " with this prediction"}`;
    body.replaceChildren(`${count}. Positive evidence in the outermost cells: ${border}.`);
    byId("group-probabilities").hidden = index.activation === "none";
    byId("group-histogram").replaceChildren(histogram(group.histogram));
    const values = await unpack(group.map);
    if (c !== state.current.summary) return; // the user went on to another
    const vmax = drawMean(byId("group-map"), values, group.map.shape[1]);
    drawBar(byId("group-bar"), state.current.colormap, true);
    byId("group-low").textContent = plain(-vmax, 1);
    byId("group-high").textContent = plain(vmax, 1);
  }

  function card(confusion) {
    const canvas = element("canvas");
    const predicted = element("span", "", named(label(confusion.predicted)));
    const truth = element("span", "wrong", "\u2260 ", named(label(confusion.truth)));
    const text = element("span", "texts", predicted, truth);
    const note = element("span", "path", pictures(confusion.count));
    const button = element("button", "card", canvas, text, note);
    button.type = "button";
    button.addEventListener("click", () => {
      const { truth, predicted } = confusion;
      state.set({ ...state.initial(gapcam.filter.keys), confusion: `${truth}>${predicted}`, view: "pictures" });
      const [picture] = gapcam.list.listed();
      state.set({ picture, pin: null, class: predicted, against: truth, evidence: "contrast" });
    });
    showMean(canvas, confusion, note);
    return button;
  }

  async function showMean(canvas, { map, maps, count }, note) {
    if (maps < count) note.append(maps ? `, map of ${maps}` : ", map not stored");
    if (!map) return;
    const vmax = drawMean(canvas, await unpack(map), map.shape[1]);
    note.append(`, to \u00b1${vmax.toFixed(1)}`);
  }

  function build() {
    byId("groups").replaceChildren(row(all, null), ...classes.map((group) => row(group, group.class)));
    byId("cards").replaceChildren(...confusions.slice(0, CARDS).map(card));
    const prefix = confusions.length > CARDS ? `the ${CARDS} most frequent of ` : "";
    byId("confusions-title").textContent = `Confusions: ${prefix}${confusions.length}`;
    byId("confusions").hidden = !confusions.length;
    byId("failures").hidden = !index.failed.length;
    byId("failures-title").textContent = `Failed: ${index.failed.length}`;
    byId("failed").replaceChildren(
      ...index.failed.map(({ path, error }) => element("li", "", named(path), element("span", "path", named(error)))),
    );
  }

  byId("group-open").addEventListener("click", () => {
    state.set({ ...state.initial(gapcam.filter.keys), of: searchable(state.current.summary), view: "pictures" });
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
