/* Where cells lie on the photograph, as in cam/geometry.py; places are shares of its height and width. */

gapcam.geometry = (() => {
  /* For each of n pixels the cell before it and how far on to the next it is, from 0 to 1; held at the ends. */
  function between(centers, pixels) {
    const cell = new Uint16Array(pixels);
    const share = new Float32Array(pixels);
    const last = centers.length - 1;
    for (let x = 0, i = 0; x < pixels; x++) {
      const at = (x + 0.5) / pixels;
      while (i < last && at >= centers[i + 1]) i++;
      cell[x] = i;
      share[x] = i === last || at <= centers[i] ? 0 : (at - centers[i]) / (centers[i + 1] - centers[i]);
    }
    return { cell, share };
  }

  /* The cell nearest to a place along one axis. */
  function nearest(centers, at) {
    let best = 0;
    centers.forEach((center, i) => {
      if (Math.abs(center - at) < Math.abs(centers[best] - at)) best = i;
    });
    return best;
  }

  /* The part of one axis that is nearer to a cell than to any other, within what was seen. */
  function extent(centers, i, first, last) {
    const start = i === 0 ? first : (centers[i - 1] + centers[i]) / 2;
    const end = i === centers.length - 1 ? last : (centers[i] + centers[i + 1]) / 2;
    return [Math.min(Math.max(start, first), last), Math.min(Math.max(end, first), last)];
  }

  /* The box of a cell, as shares of the photograph. */
  function box({ rows, columns, seen }, place) {
    const [row, column] = [Math.floor(place / columns.length), place % columns.length];
    const [top, bottom] = extent(rows, row, seen[1], seen[3]);
    const [left, right] = extent(columns, column, seen[0], seen[2]);
    return { left, top, width: right - left, height: bottom - top };
  }

  return { between, nearest, box };
})();
