/* Evidence to color, as in cam/drawing/colormaps.py: entry 1 of a table is -vmax, 128 is zero, 255 is +vmax. */

gapcam.color = (() => {
  const { index, bytesOf } = gapcam.data;
  const tables = {};

  /* The 256 pixels of a colormap; zero is transparent. */
  function table(name) {
    if (!tables[name]) {
      tables[name] = new Uint32Array(bytesOf(index.drawing.colormaps[name]).slice().buffer);
    }
    return tables[name];
  }

  /* The entry of a value, where the end of the scale is 1. */
  const entry = (value) => Math.min(255, Math.max(1, Math.round(128 + 127 * value)));

  /* The whole color scale, from the lowest value on the left to the highest. */
  function drawBar(canvas, name, signed) {
    const colors = table(name);
    const context = canvas.getContext("2d");
    const strip = context.createImageData(canvas.width, 1);
    const pixels = new Uint32Array(strip.data.buffer);
    for (let x = 0; x < canvas.width; x++) {
      const share = x / (canvas.width - 1);
      pixels[x] = colors[entry(signed ? 2 * share - 1 : share)];
    }
    for (let y = 0; y < canvas.height; y++) context.putImageData(strip, 0, y);
  }

  return { table, entry, drawBar };
})();
