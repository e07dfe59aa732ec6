/* Positions of cells on the photograph, as shares of its height and width (see cam/maps/projection.py). */

gapcam.geometry = (() => {
  /* For each pixel the cell before it, and how far it is to the next cell, 0 to 1; constant beyond the ends. */
  function between(centers, pixels) {
    const cell = new Uint16Array(pixels);
    const share = new Float32Array(pixels);
    const last = centers.length - 1;
    for (let x = 0, i = 0; x < pixels; x++) {
      const position = (x + 0.5) / pixels;
      while (i < last && position >= centers[i + 1]) i++;
      cell[x] = i;
      share[x] = i === last || position <= centers[i] ? 0 : (position - centers[i]) / (centers[i + 1] - centers[i]);
    }
    return { cell, share };
  }

  /* The cell nearest to a position along one axis. */
  function nearest(centers, position) {
    let best = 0;
    centers.forEach((center, i) => {
      if (Math.abs(center - position) < Math.abs(centers[best] - position)) best = i;
    });
    return best;
  }

  /* The part of one axis that is nearest to a cell, within what the network saw. */
  function extent(centers, i, first, last) {
    const start = i === 0 ? first : (centers[i - 1] + centers[i]) / 2;
    const end = i === centers.length - 1 ? last : (centers[i] + centers[i + 1]) / 2;
    return [Math.min(Math.max(start, first), last), Math.min(Math.max(end, first), last)];
  }

  /* The box of a cell, as shares of the photograph. */
  function box({ rows, columns, seen }, cell) {
    const [row, column] = [Math.floor(cell / columns.length), cell % columns.length];
    const [top, bottom] = extent(rows, row, seen[1], seen[3]);
    const [left, right] = extent(columns, column, seen[0], seen[2]);
    return { left, top, width: right - left, height: bottom - top };
  }

  /* The outline of some cells, as the path of an SVG that is one high and one wide. */
  function outline(picture, cells) {
    const inside = new Set(cells);
    const columns = picture.columns.length;
    const lines = cells.flatMap((cell) => {
      const { left, top, width, height } = box(picture, cell);
      const [right, bottom] = [left + width, top + height];
      const isEdge = {
        left: cell % columns === 0 || !inside.has(cell - 1),
        right: cell % columns === columns - 1 || !inside.has(cell + 1),
        top: !inside.has(cell - columns),
        bottom: !inside.has(cell + columns),
      };
      return [
        isEdge.left && `M${left} ${top}V${bottom}`,
        isEdge.right && `M${right} ${top}V${bottom}`,
        isEdge.top && `M${left} ${top}H${right}`,
        isEdge.bottom && `M${left} ${bottom}H${right}`,
      ];
    });
    return lines.filter(Boolean).join("");
  }

  return { between, nearest, box, outline };
})();
