/* Evidence to color, as in cam/drawing/colormaps.py: entry 1 of a table is -vmax, 128 is zero, 255 is +vmax. */

gapcam.color = (() => {
  const { index, bytesOf } = gapcam.data;
  const tables = {};
  const GRAY = 140; // under the colors of the bar, as in cam/drawing/legend.py

  /* The 256 pixels of a colormap; zero is transparent. */
  function table(name) {
    if (!tables[name]) {
      tables[name] = new Uint32Array(bytesOf(index.drawing.colormaps[name]).slice().buffer);
    }
    return tables[name];
  }

  /* The entry of a value, where the end of the scale is 1. */
  const entry = (value) => Math.min(255, Math.max(1, Math.round(128 + 127 * value)));

  const rgba = (name) => new Uint8Array(table(name).buffer);

  /* Whether a colormap also has colors for evidence against the class. */
  const hasNegative = (name) => rgba(name)[4 + 3] > 0;

  /* The color scale, as it looks over gray: from minus one if it is signed, else from zero. */
  function drawBar(canvas, name, signed, opacity = 1) {
    const colors = rgba(name);
    const context = canvas.getContext("2d");
    const strip = context.createImageData(canvas.width, 1);
    for (let x = 0; x < canvas.width; x++) {
      const share = x / (canvas.width - 1);
      const n = 4 * entry(signed ? 2 * share - 1 : share);
      const alpha = (opacity * colors[n + 3]) / 255;
      for (let c = 0; c < 3; c++) strip.data[4 * x + c] = alpha * colors[n + c] + (1 - alpha) * GRAY;
      strip.data[4 * x + 3] = 255;
    }
    for (let y = 0; y < canvas.height; y++) context.putImageData(strip, 0, y);
  }

  return { table, entry, hasNegative, drawBar };
})();
