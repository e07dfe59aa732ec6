/* What the model sees at one place: the evidence of its cell. */

gapcam.place = (() => {
  const { index } = gapcam.data;
  const { cam, mean, strongest, isFiner } = gapcam.evidence;
  const { byId, element, named, signed, plain, percent, label } = gapcam.format;
  const { nearest, box } = gapcam.geometry;

  const TOP = 5;
  const [table, title, sums, marker] = ["place", "place-title", "sums", "marker"].map(byId);

  /* The place of a point, both as shares of the photograph's width and height; null where nothing was seen. */
  function at(picture, x, y) {
    const [x0, y0, x1, y1] = picture.seen;
    if (x < x0 || x > x1 || y < y0 || y > y1) return null;
    return nearest(picture.rows, y) * picture.columns.length + nearest(picture.columns, x);
  }

  function bar(c, value, largest, className) {
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

  /* Show the cell of a place: the strongest classes there, and those that were chosen. */
  function show(picture, place, { class: own, against, evidence }, values, pinned) {
    marker.hidden = place === null;
    table.replaceChildren();
    if (place === null) {
      title.textContent = "Point at the photograph, or move over it with the arrow keys.";
      return;
    }
    const { left, top, width, height } = box(picture, place);
    Object.assign(marker.style, {
      left: `${100 * left}%`,
      top: `${100 * top}%`,
      width: `${100 * width}%`,
      height: `${100 * height}%`,
    });
    marker.className = pinned ? "pinned" : "";
    const [row, column] = [Math.floor(place / picture.columns.length), place % picture.columns.length];
    const grid = `${picture.rows.length} \u00d7 ${picture.columns.length}`;
    const said = values && evidence !== "logit" ? `: ${evidence} ${read(evidence, values[place])}` : "";
    title.textContent = `Row ${row + 1}, column ${column + 1} of ${grid}${pinned ? ", pinned" : ""}${said}`;
    const best = strongest(picture, place, TOP);
    const chosen = [own, ...(evidence === "contrast" ? [against] : [])];
    const extra = chosen.filter((c) => cam(picture, c) && !best.some((each) => each.class === c));
    const shown = [...best, ...extra.map((c) => ({ class: c, value: cam(picture, c)[place] }))];
    const largest = Math.max(...shown.map(({ value }) => Math.abs(value)));
    table.append(...shown.map(({ class: c, value }) => bar(c, value, largest, chosen.includes(c) ? "chosen" : "")));
  }

  const read = (evidence, value) => (evidence === "posterior" ? percent(value) : signed(value));

  /* Show what the cells of the chosen class add up to. */
  function showSums(picture, { class: own, against, evidence }) {
    const [map, other] = [cam(picture, own), cam(picture, against)];
    const whose = isFiner(picture) ? "logit of this finer input" : "logit";
    const term = (c, values) => {
      const [part, bias, logit] = [mean(values), index.bias[c], picture.mapLogits[c]];
      const apart = Math.abs(part + bias - logit);
      const sum = `mean of ${values.length} cells ${plain(part)} + bias ${plain(bias)} = ${plain(part + bias)}`;
      const how = apart < 0.0006 ? "cells are kept to 0.0005" : `${apart.toFixed(4)} apart`;
      return `${sum}; ${whose} ${plain(logit)} (${how})`;
    };
    const missing = (c) => `${whose} ${plain(picture.mapLogits[c])}; its map was not kept`;
    const line = (c, values) => element("div", "", named(label(c)), ": ", values ? term(c, values) : missing(c));
    const lines = [line(own, map)];
    if (evidence === "contrast") {
      lines.push(line(against, other));
      const gap = picture.mapLogits[own] - picture.mapLogits[against];
      lines.push(element("div", "", `one over the other by ${plain(gap)}`));
    }
    sums.replaceChildren(...lines);
  }

  return { at, show, showSums };
})();
