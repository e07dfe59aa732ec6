/* Draws heat and photograph on canvases. */

gapcam.drawing = (() => {
  const { between } = gapcam.geometry;
  const { table, scaleOf } = gapcam.color;

  /* Draw a map over the whole canvas: linear between the centers of cells, constant beyond them, transparent where the
     network saw nothing and where abs(value) is below threshold * vmax. */
  function drawHeat(canvas, values, { rows, columns, seen }, { vmax, colormap, signed, threshold }) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const colors = table(colormap);
    const { offset, slope } = scaleOf(colormap, signed);
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
        pixels[y * width + x] = colors[Math.min(255, Math.max(1, Math.round(offset + slope * value)))];
      }
    }
    context.putImageData(image, 0, 0);
  }

  /* Draw a photograph; fade and hatch what the network did not see, and outline what it saw. */
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
    context.fillStyle = "rgb(96 96 96 / 0.5)";
    context.fillRect(0, 0, width, height);
    context.strokeStyle = "rgb(255 255 255 / 0.45)";
    context.beginPath();
    for (let x = 0; x < width + height; x += 10) {
      context.moveTo(x, 0);
      context.lineTo(x - height, height);
    }
    context.stroke();
    context.restore();
    context.strokeStyle = "#fff";
    context.strokeRect(x0 - 0.5, y0 - 0.5, x1 - x0 + 1, y1 - y0 + 1);
  }

  /* Draw each cell of a map as a pixel. */
  function drawCells(canvas, values, columns, { vmax, colormap }) {
    const colors = table(colormap);
    canvas.width = columns;
    canvas.height = values.length / columns;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const { offset, slope } = scaleOf(colormap, true);
    values.forEach((value, n) => {
      pixels[n] = colors[Math.min(255, Math.max(1, Math.round(offset + (slope * value) / vmax)))];
    });
    context.putImageData(image, 0, 0);
  }

  return { drawHeat, drawPhoto, drawCells };
})();
