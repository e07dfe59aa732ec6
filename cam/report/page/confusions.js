/* The confusions: a matrix of few classes, and a card with photograph and mean contrast of each pair. */

gapcam.confusions = (() => {
  const { index, preview, addressOf, unpack } = gapcam.data;
  const { byId, element, named, pictures, label, searchable, visible } = gapcam.format;
  const { drawMean } = gapcam.drawing;
  const { count, picturesOf, labeled } = gapcam.counts;
  const state = gapcam.state;

  const CARDS = 60; // most frequent confusions; the filter lists all
  const CLASSES = 30; // in the matrix
  const { confusions } = index.summary;

  /* Show the pictures of a true class with a prediction. */
  function open(truth, predicted) {
    const isRight = truth === predicted;
    const filter = isRight ? { of: searchable(truth), show: "right" } : { confusion: `${truth}>${predicted}` };
    state.set({ ...state.initial(gapcam.filter.keys), ...filter, view: "pictures" });
    state.open(gapcam.list.listed()[0]);
    state.set(isRight ? { evidence: "logit" } : { class: predicted, against: truth, evidence: "contrast" });
  }

  /* A button that shows the pictures of a pair. */
  function opener(truth, predicted, className, ...content) {
    const button = element("button", className, ...content);
    button.type = "button";
    button.addEventListener("click", () => open(truth, predicted));
    return button;
  }

  /* All classes, or of many those that occur. */
  function classesOfMatrix() {
    if (index.labels.length <= CLASSES) return index.labels.map((_, c) => c);
    const pairs = index.pictures.filter(({ truth }) => truth !== null).map(({ truth, top }) => [truth, top[0][0]]);
    return [...new Set(pairs.flat())].sort((a, b) => a - b);
  }

  function matrixCell(truth, predicted, largest) {
    const number = count(truth, predicted);
    if (!number) return element("td");
    const button = opener(truth, predicted, truth === predicted ? "link diagonal" : "link", String(number));
    const verb = truth === predicted ? "recognized" : `taken for ${visible(label(predicted))}`;
    button.title = button.ariaLabel = `${visible(label(truth))} ${verb}: ${number}`;
    button.style.setProperty("--share", number / largest);
    return element("td", "", button);
  }

  function showMatrix() {
    const classes = classesOfMatrix();
    byId("matrix-box").hidden = !labeled || classes.length > CLASSES;
    if (byId("matrix-box").hidden) return;
    const largest = Math.max(1, ...confusions.map((confusion) => confusion.count));
    const heading = (c, scope) => {
      const cell = element("th", "", named(label(c)));
      cell.scope = scope;
      cell.title = visible(label(c));
      return cell;
    };
    const corner = element("td", "path", "true \u2193 taken for \u2192");
    const head = element("tr", "", corner, ...classes.map((c) => heading(c, "col")));
    const rows = classes.map((truth) => {
      const cells = classes.map((predicted) => matrixCell(truth, predicted, truth === predicted ? Infinity : largest));
      return element("tr", "", heading(truth, "row"), ...cells);
    });
    byId("matrix").replaceChildren(head, ...rows);
    matrix.refresh();
  }

  const actions = new Map();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      actions.get(target)();
      actions.delete(target);
    }
  });

  /* Call a function as soon as an element comes into view. */
  function whenSeen(element, action) {
    actions.set(element, action);
    observer.observe(element);
  }

  async function drawCard(button, { truth, predicted, map }) {
    const [image, canvas, note] = ["img", "canvas", ".path"].map((name) => button.querySelector(name));
    const [number] = picturesOf(truth, predicted);
    image.classList.toggle("pixelated", Math.max(...index.pictures[number].size) < image.width);
    preview(number).then(({ thumbnail }) => (image.src = addressOf(thumbnail)), () => {});
    button.classList.add("drawn");
    if (!map) return;
    const vmax = drawMean(canvas, await unpack(map), map.shape[1], state.current.colormap);
    note.append(`, to \u00b1${vmax.toFixed(1)}`);
  }

  /* A card with the most confident picture of a pair, and the mean contrast of all. */
  function card(confusion) {
    const { truth, predicted, map, maps } = confusion;
    const [image, canvas] = [Object.assign(element("img"), { alt: "" }), element("canvas")];
    canvas.hidden = !map;
    const taken = element("span", "wrong", "taken for ", named(label(predicted)));
    const texts = element("span", "texts", element("span", "", named(label(truth))), taken);
    const note = element("span", "path", pictures(confusion.count));
    if (maps < confusion.count) note.append(maps ? `, map of ${maps}` : ", map not stored");
    const button = opener(truth, predicted, "card", element("span", "pair", image, canvas), texts, note);
    whenSeen(button, () => drawCard(button, confusion));
    return button;
  }

  /* Show matrix and cards. */
  function show() {
    showMatrix();
    observer.disconnect(); // the cards of before
    actions.clear();
    byId("cards").replaceChildren(...confusions.slice(0, CARDS).map(card));
    cards.refresh();
    const prefix = confusions.length > CARDS ? `the ${CARDS} most frequent of ` : "";
    byId("confusions-title").textContent = `Confusions: ${prefix}${confusions.length}`;
    byId("confusions").hidden = !confusions.length;
  }

  const [matrix, cards] = ["matrix", "cards"].map((id) => gapcam.roving(byId(id)));

  return { show, opener, whenSeen };
})();
