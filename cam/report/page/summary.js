/* The summary: the mean map of all pictures and of each class, and how well each class is recognized. */

(() => {
  const { index, unpack } = gapcam.data;
  const { byId, element, named, percent, pictures, plain, label, searchable } = gapcam.format;
  const { drawMean } = gapcam.drawing;
  const { drawBar } = gapcam.color;
  const { labeled, accuracy, wrong, trueCount, precision, recall, takenFor, mistakenFor } = gapcam.counts;
  const { opener } = gapcam.confusions;
  const state = gapcam.state;

  const { all, classes } = index.summary;
  const groups = new Map(classes.map((group) => [group.class, group])); // by predicted class
  const missed = [...index.labels.keys()].filter((c) => trueCount(c) && !groups.has(c)); // never predicted

  const share = (value) => (Number.isNaN(value) ? "\u2013" : percent(value));
  const border = (group) => (group ? percent(group.border) : "\u2013");

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

  /* The class that a class is most often taken for, or else the one most often taken for it; null is all classes. */
  function confusedWith(c) {
    if (c === null) return wrong ? `others (${wrong})` : "\u2013";
    const [[taken], [mistaken]] = [takenFor(c), mistakenFor(c)];
    if (!taken && !mistaken) return "\u2013";
    const [other, count] = taken ?? mistaken;
    return element("span", "", taken ? "" : "for it: ", named(label(other)), ` (${count})`);
  }

  /* A line of the table; null is all classes. */
  function row(c) {
    const group = c === null ? all : groups.get(c);
    const button = element("button", "link", c === null ? "all classes" : named(label(c)));
    button.type = "button";
    button.addEventListener("click", () => state.set({ summary: c }));
    const scores = c === null ? [share(accuracy), share(accuracy)] : [share(precision(c)), share(recall(c))];
    const truth = labeled ? [...scores, confusedWith(c)] : [];
    const cells = [String(group?.count ?? 0), ...truth, border(group)];
    const line = element("tr", "", element("th", "", button), ...cells.map((cell) => element("td", "number", cell)));
    line.dataset.class = c ?? "all";
    return line;
  }

  /* "Taken for": a line of buttons, each for the pictures of a pair of classes. */
  function pairs(title, others, opened) {
    if (!others.length) return [];
    const buttons = others.map(([other, count]) => opened(other, named(label(other)), ` (${count})`));
    return [element("p", "pairs", `${title}: `, ...buttons)];
  }

  /* What is said of a class, or of all. */
  function describe(c) {
    const group = c === null ? all : groups.get(c);
    const lines = [];
    if (c === null) lines.push(`${pictures(all.count)}.${labeled ? ` Right: ${share(accuracy)}.` : ""}`);
    else {
      const known = labeled ? `, ${trueCount(c)} with this true class` : "";
      lines.push(`${pictures(group?.count ?? 0)} with this prediction${known}.`);
      if (labeled) lines.push(`Precision ${share(precision(c))}, recall ${share(recall(c))}.`);
    }
    if (group) {
      const even = percent(group.even);
      lines.push(`Positive evidence in the outermost cells: ${border(group)} (${even} if spread evenly).`);
    }
    const taken = pairs("Taken for", takenFor(c), (other, ...text) => opener(c, other, "link", ...text));
    const others = (other, ...text) => opener(other, c, "link", ...text);
    return [element("p", "", lines.join(" ")), ...taken, ...pairs("Others taken for it", mistakenFor(c), others)];
  }

  async function showGroup(c) {
    const group = c === null ? all : groups.get(c);
    byId("group-title").replaceChildren(c === null ? "All classes" : named(label(c)));
    byId("group-open").hidden = c === null;
    byId("group").classList.toggle("empty", !group);
    byId("group-text").replaceChildren(...describe(c));
    gapcam.scatter.show(c);
    if (!group) return;
    byId("group-probabilities").hidden = index.activation === "none";
    byId("group-histogram").replaceChildren(histogram(group.histogram));
    const values = await unpack(group.map);
    const { summary, colormap } = state.current;
    if (c !== summary) return; // the user went on to another
    const vmax = drawMean(byId("group-map"), values, group.map.shape[1], colormap);
    drawBar(byId("group-bar"), colormap, true);
    byId("group-low").textContent = plain(-vmax, 1);
    byId("group-high").textContent = plain(vmax, 1);
  }

  const lines = gapcam.roving(byId("groups"));

  function build() {
    byId("groups").replaceChildren(...[null, ...groups.keys(), ...missed].map(row));
    lines.refresh();
    gapcam.confusions.show();
    gapcam.audit.show();
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
