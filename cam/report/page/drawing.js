/* Draws heat and photograph on canvases. */

gapcam.drawing = (() => {
  const { between } = gapcam.geometry;
  const { table, entry } = gapcam.color;
  const { peak } = gapcam.evidence;

  /* Draw a map over the whole canvas: linear between the centers of cells, constant beyond them, transparent where the
     network saw nothing and where abs(value) is below threshold * vmax. */
  function drawHeat(canvas, values, { rows, columns, seen }, { vmax, colormap, threshold }) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const colors = table(colormap);
    const [across, down] = [between(columns, width), between(rows, height)];
    const [x0, x1] = [Math.round(seen[0] * width), Math.round(seen[2] * width)];
    const [y0, y1] = [Math.round(seen[1] * height), Math.round(seen[3] * height)];
    const w = columns.length;
    const line = new Float32Array(w + 1);
    for (let y = y0; y < y1; y++) {
      const [above, part] = [down.cell[y] * w, down.share[y]];
      const below = part ? above + w : above;
      for (let c = 0; c < w; c++) line[c] = ((1 - part) * values[above + c] + part * values[below + c]) / vmax;
      line[w] = 0;
      for (let x = x0; x < x1; x++) {
        const c = across.cell[x];
        const value = line[c] + across.share[x] * (line[c + 1] - line[c]);
        if (Math.abs(value) < threshold) continue;
        pixels[y * width + x] = colors[entry(value)];
      }
    }
    context.putImageData(image, 0, 0);
  }

  /* Draw a photograph; what the network did not see is gray and pale, outside a thin frame. */
  function drawPhoto(canvas, image, seen) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, width, height);
    const [x0, y0, x1, y1] = [seen[0] * width, seen[1] * height, seen[2] * width, seen[3] * height].map(Math.round);
    if (x0 === 0 && y0 === 0 && x1 === width && y1 === height) return;
    const outside = new Path2D();
    outside.rect(0, 0, width, height);
    outside.rect(x0, y0, x1 - x0, y1 - y0);
    context.save();
    context.clip(outside, "evenodd");
    context.globalCompositeOperation = "saturation";
    context.fillStyle = "#808080";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-over";
    context.fillStyle = "rgb(255 255 255 / 0.65)";
    context.fillRect(0, 0, width, height);
    context.restore();
    context.strokeStyle = "#404040";
    context.strokeRect(x0 - 0.5, y0 - 0.5, x1 - x0 + 1, y1 - y0 + 1);
  }

  /* Draw each cell of a map as a pixel, in colors up to its own peak, and return the peak. */
  function drawMean(canvas, values, columns, colormap) {
    const vmax = peak(values) || 1;
    const colors = table(colormap);
    canvas.width = columns;
    canvas.height = values.length / columns;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    values.forEach((value, n) => {
      pixels[n] = colors[entry(value / vmax)];
    });
    context.putImageData(image, 0, 0);
    return vmax;
  }

  return { drawHeat, drawPhoto, drawMean };
})();
