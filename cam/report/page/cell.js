/* The evidence at one cell, and the sum over all cells. */

gapcam.cell = (() => {
  const { index } = gapcam.data;
  const { cam, mean, strongest, isFiner, baseOf, methodOf, isReference } = gapcam.evidence;
  const { byId, element, named, signed, plain, percent, label } = gapcam.format;
  const { nearest, box } = gapcam.geometry;

  const TOP = 5;
  const [table, title, sums, marker] = ["cell", "cell-title", "sums", "marker"].map(byId);

  /* The cell at a point, given in shares of the photograph's width and height; null outside what the network saw. */
  function cellAt(picture, x, y) {
    const [x0, y0, x1, y1] = picture.seen;
    if (x < x0 || x > x1 || y < y0 || y > y1) return null;
    return nearest(picture.rows, y) * picture.columns.length + nearest(picture.columns, x);
  }

  function bar({ class: c, value }, largest, className) {
    const strip = element("span", value < 0 ? "bar below" : "bar");
    strip.style.width = `${Math.min(100, (100 * Math.abs(value)) / (largest || 1))}%`;
    return element(
      "tr",
      className,
      element("th", "", named(label(c))),
      element("td", "number", signed(value)),
      element("td", "bars", strip),
    );
  }

  /* Show a cell with its strongest classes and the selected ones. */
  function show(picture, cell, { class: target, against, evidence }, values, pinned) {
    marker.hidden = cell === null;
    table.replaceChildren();
    if (cell === null) {
      title.textContent = "Point at the photograph, or move over it with the arrow keys.";
      return;
    }
    const { left, top, width, height } = box(picture, cell);
    Object.assign(marker.style, {
      left: `${100 * left}%`,
      top: `${100 * top}%`,
      width: `${100 * width}%`,
      height: `${100 * height}%`,
    });
    marker.className = pinned ? "pinned" : "";
    const [row, column] = [Math.floor(cell / picture.columns.length), cell % picture.columns.length];
    const grid = `${picture.rows.length} \u00d7 ${picture.columns.length}`;
    const value = values && evidence !== "logit" ? `: ${evidence} ${read(evidence, values[cell])}` : "";
    title.textContent = `Row ${row + 1}, column ${column + 1} of ${grid}${pinned ? ", pinned" : ""}${value}`;
    const best = strongest(picture, cell, TOP);
    const selected = [target, ...(evidence === "contrast" ? [against] : [])];
    const others = selected.filter((c) => cam(picture, c) && !best.some((entry) => entry.class === c));
    const entries = [...best, ...others.map((c) => ({ class: c, value: cam(picture, c)[cell] }))];
    const largest = Math.max(...entries.map((entry) => Math.abs(entry.value)));
    table.append(...entries.map((entry) => bar(entry, largest, selected.includes(entry.class) ? "selected" : "")));
  }

  const read = (evidence, value) => (evidence === "posterior" ? percent(value) : signed(value));

  /* Show how the cells of the selected classes add up to the logits. */
  function showSums(picture, classes) {
    const { class: target, against, evidence } = classes;
    const name = isFiner(picture) ? "logit at this resolution" : "logit";
    const term = (c, values) => {
      const [part, base, logit] = [mean(values), baseOf(picture, c), picture.mapLogits[c]];
      if (isReference) return `mean of ${values.length} cells ${plain(part)}; ${name} ${plain(logit)}`;
      const gap = Math.abs(part + base - logit);
      const word = index.method ? "base" : "bias";
      const sum = `mean of ${values.length} cells ${plain(part)} + ${word} ${plain(base)} = ${plain(part + base)}`;
      const note = gap < 0.0006 ? "" : ` (off by ${gap.toFixed(4)})`; // cells are stored to \u00b10.0005
      return `${sum}; ${name} ${plain(logit)}${note}`;
    };
    const missing = (c) => `${name} ${plain(picture.mapLogits[c])}; its map is not stored`;
    const line = (c) => {
      const values = cam(picture, c);
      return element("div", "", named(label(c)), ": ", values ? term(c, values) : missing(c));
    };
    const lines = [line(target)];
    if (evidence === "contrast") {
      lines.push(line(against));
      const difference = picture.mapLogits[target] - picture.mapLogits[against];
      lines.push(element("div", "", `difference ${plain(difference)}`));
    }
    const method = methodOf(picture, classes);
    sums.replaceChildren(...lines, ...(method ? [element("div", "", method)] : []));
  }

  return { cellAt, show, showSums };
})();
