/* Downloads: the view as PNG, the list as CSV. */

gapcam.save = (() => {
  const { index } = gapcam.data;
  const { byId, isolated, percent, plain, label, textOf } = gapcam.format;
  const { probability, isFiner } = gapcam.evidence;
  const { selection } = gapcam.classes;
  const { isWrong, leadOf } = gapcam.filter;
  const { box } = gapcam.geometry;
  const { describe } = gapcam.legend;
  const state = gapcam.state;

  const LEGEND_HEIGHT = 112; // pixels, below the photograph
  const MIN_WIDTH = 480; // pixels, for a readable legend

  function download(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  /* The lines of text below the photograph. */
  function legend() {
    const { class: target, against, evidence } = selection(state.current);
    const { picture } = gapcam.picture.view;
    const share = probability(index.pictures[state.current.picture], picture, target);
    const { mapLogits } = picture;
    const score =
      evidence === "contrast"
        ? `lead ${plain(mapLogits[target] - mapLogits[against], 2)}`
        : `${share === null ? "value" : `probability ${percent(share)}, logit`} ${plain(mapLogits[target], 2)}`;
    const resolution = isFiner(picture) ? " at this resolution" : "";
    const parts = describe(selection(state.current)).caption;
    const text = parts.map((part) => (typeof part === "number" ? isolated(label(part)) : part)).join("");
    return [`${text}: ${score}${resolution}`, textOf(byId("answer")), byId("scale-note").textContent];
  }

  /* The photograph with heat, pinned cell and legend on one canvas. */
  function compose() {
    const [photo, heat] = [byId("photo"), byId("heat-canvas")];
    const times = Math.ceil(MIN_WIDTH / photo.width);
    const [width, height] = [times * photo.width, times * photo.height];
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height + LEGEND_HEIGHT];
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.filter = photo.style.filter || "none";
    context.imageSmoothingEnabled = false; // a small photograph shows its pixels, as in the page
    context.drawImage(photo, 0, 0, width, height);
    context.imageSmoothingEnabled = true;
    context.filter = "none";
    if (!heat.hidden) {
      context.globalAlpha = state.current.opacity;
      context.drawImage(heat, 0, 0, width, height);
      context.globalAlpha = 1;
    }
    drawOutline(context, width, height);
    const { picture } = gapcam.picture.view;
    const { pin } = state.current;
    if (pin !== null && pin < picture.cells) {
      const cell = box(picture, pin);
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      context.strokeRect(cell.left * width, cell.top * height, cell.width * width, cell.height * height);
    }
    drawLegend(context, height);
    return canvas;
  }

  function drawOutline(context, width, height) {
    for (const line of byId("outline").children) {
      const { stroke, strokeWidth, strokeDasharray } = getComputedStyle(line);
      context.strokeStyle = stroke;
      context.lineWidth = parseFloat(strokeWidth);
      context.setLineDash(strokeDasharray === "none" ? [] : strokeDasharray.split(",").map(parseFloat));
      const path = new Path2D();
      path.addPath(new Path2D(line.getAttribute("d")), new DOMMatrix([width, 0, 0, height, 0, 0]));
      context.stroke(path);
    }
    context.setLineDash([]);
  }

  function drawLegend(context, top) {
    const bar = byId("bar");
    const width = Math.min(240, context.canvas.width - 16);
    context.fillStyle = "#111";
    context.font = "13px sans-serif";
    legend().forEach((line, n) => context.fillText(line, 8, top + 18 + 17 * n, context.canvas.width - 16));
    context.drawImage(bar, 8, top + 60, width, 12);
    context.font = "11px sans-serif";
    const numbers = [["low", 0, "left", 85], ["middle", 0.5, "center", 85], ["high", 1, "right", 85]];
    const names = [["low-name", 0, "left", 100], ["high-name", 1, "right", 100]];
    for (const [id, share, align, y] of [...numbers, ...names]) {
      context.textAlign = align;
      context.fillText(textOf(byId(id)), 8 + share * width, top + y, width / 2);
    }
  }

  const fileName = (name) => name.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(-80);

  function savePicture() {
    const { class: target, evidence } = selection(state.current);
    const name = `${fileName(index.pictures[state.current.picture].name)}.${target}.${evidence}.png`;
    compose().toBlob((blob) => download(blob, name), "image/png");
  }

  /* A CSV field; an apostrophe keeps a spreadsheet from reading text as a formula. */
  function csvField(value) {
    if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return `"${text.replaceAll('"', '""')}"`;
  }

  function table() {
    const lines = gapcam.list.listed().map((number) => {
      const row = index.pictures[number];
      const [c, logit, probability] = row.top[0];
      const truth = row.truth === null ? ["", ""] : [label(row.truth), isWrong(row) ? "wrong" : "right"];
      return [row.path, label(c), c, logit, probability ?? "", ...truth, leadOf(row), row.completeness, row.border];
    });
    const names = ["path", "prediction", "class_idx", "logit", "probability", "truth", "verdict"];
    const header = [...names, "lead", "completeness_error", "border_share"];
    return [header, ...lines].map((line) => line.map(csvField).join(",")).join("\r\n") + "\r\n";
  }

  byId("save-picture").addEventListener("click", savePicture);
  byId("save-table").addEventListener("click", () => {
    download(new Blob(["\ufeff", table()], { type: "text/csv" }), "pictures.csv");
  });

  return { table, legend, download };
})();
