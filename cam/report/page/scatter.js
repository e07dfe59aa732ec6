/* The pictures of a class in a plane, those with like evidence near each other (see cam/audit/separation.py). */

gapcam.scatter = (() => {
  const { index } = gapcam.data;
  const { byId, visible, pictures } = gapcam.format;
  const { isWrong } = gapcam.filter;
  const { selection, state } = gapcam;

  const SIDE = 240; // of the canvas in pixels, as in summary.css
  const MARGIN = 8; // pixels
  const NEAR = 8; // pixels from the pointer to a point, and that a pointer moves to draw a rectangle
  const canvas = byId("scatter");
  let points = []; // of the class that is shown: number of the picture, x and y in pixels, and whether in the group
  let start = null; // where the pointer went down

  const place = (share) => MARGIN + share * (SIDE - 2 * MARGIN);

  /* Draw the points, and a rectangle [x, y, width, height] if one is given. */
  function draw(rectangle) {
    const ratio = devicePixelRatio;
    canvas.width = canvas.height = SIDE * ratio;
    const context = canvas.getContext("2d");
    const { color, outlineColor, borderColor } = getComputedStyle(canvas);
    context.scale(ratio, ratio);
    context.strokeStyle = borderColor;
    for (const { number, x, y, inGroup } of points) {
      context.beginPath();
      context.arc(x, y, selection.has(number) ? 4.5 : 2.5, 0, 2 * Math.PI);
      context.fillStyle = inGroup ? outlineColor : color;
      context.fill();
      if (isWrong(index.pictures[number])) context.strokeRect(x - 4, y - 4, 8, 8);
    }
    if (rectangle) context.strokeRect(...rectangle);
  }

  /* Show the pictures of a class; null, all classes, has no scatter. */
  function show(c) {
    const scatter = index.audit.scatters[c];
    byId("group-scatter").hidden = !scatter;
    if (!scatter) return;
    const group = index.audit.groups.find(({ class_idx: other }) => other === c);
    const members = new Set(group?.members);
    points = scatter.images.map((number, n) => ({
      number,
      x: place(scatter.x[n]),
      y: place(1 - scatter.y[n]),
      inGroup: members.has(number),
    }));
    const texts = [`${pictures(points.length)}, those with like evidence near each other.`];
    if (group) texts.push("Orange: the group that stands out.");
    if (points.some(({ number }) => isWrong(index.pictures[number]))) texts.push("In a square: wrong.");
    texts.push("Drag to select.");
    byId("scatter-note").textContent = texts.join(" ");
    draw();
  }

  /* The point at the pointer, or undefined. */
  function nearest({ offsetX, offsetY }) {
    const distance = ({ x, y }) => Math.hypot(x - offsetX, y - offsetY);
    const [best] = points.filter((point) => distance(point) < NEAR).sort((a, b) => distance(a) - distance(b));
    return best;
  }

  /* The rectangle from where the pointer went down, or null if it hardly moved. */
  function drawn({ offsetX, offsetY }) {
    if (!start || Math.hypot(offsetX - start.x, offsetY - start.y) < NEAR) return null;
    const [x, y] = [Math.min(start.x, offsetX), Math.min(start.y, offsetY)];
    return [x, y, Math.abs(offsetX - start.x), Math.abs(offsetY - start.y)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    start = { x: event.offsetX, y: event.offsetY };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const point = nearest(event);
    canvas.title = point ? visible(index.pictures[point.number].name) : "";
    if (start) draw(drawn(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    const rectangle = drawn(event);
    start = null;
    if (rectangle) {
      const [left, top, width, height] = rectangle;
      const inside = ({ x, y }) => x >= left && x <= left + width && y >= top && y <= top + height;
      selection.add(points.filter(inside).map(({ number }) => number));
    } else if (nearest(event)) state.open(nearest(event).number);
  });
  canvas.addEventListener("pointercancel", () => (start = null));
  selection.listen(() => draw());

  return { show };
})();
