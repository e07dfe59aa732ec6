/* Evidence to color, as in cam/drawing/colormaps.py: entry 1 of a table is -vmax, 128 is zero, 255 is +vmax. */

gapcam.color = (() => {
  const { index, bytesOf } = gapcam.data;
  const tables = {};

  /* The 256 opaque pixels of a colormap. */
  function table(name) {
    if (!tables[name]) {
      const rgb = bytesOf(index.drawing.colormaps[name]);
      tables[name] = new Uint32Array(256);
      const bytes = new Uint8ClampedArray(tables[name].buffer);
      for (let i = 0; i < 256; i++) bytes.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
    }
    return tables[name];
  }

  /* Entry = offset + slope * value / vmax. Probabilities fill a colormap from end to end, unless it has a middle. */
  function scaleOf(name, signed) {
    return !signed && name !== "signed" ? { offset: 1, slope: 254 } : { offset: 128, slope: 127 };
  }

  /* The whole color scale, from the lowest value on the left to the highest. */
  function drawBar(canvas, name, signed) {
    const colors = table(name);
    const { offset, slope } = scaleOf(name, signed);
    const context = canvas.getContext("2d");
    const strip = context.createImageData(canvas.width, 1);
    const pixels = new Uint32Array(strip.data.buffer);
    for (let x = 0; x < canvas.width; x++) {
      const share = x / (canvas.width - 1);
      pixels[x] = colors[Math.round(offset + slope * (signed ? 2 * share - 1 : share))];
    }
    for (let y = 0; y < canvas.height; y++) context.putImageData(strip, 0, y);
  }

  return { table, scaleOf, drawBar };
})();
