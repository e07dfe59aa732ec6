/* The groups that cam audit found: pictures of a class with evidence that does not belong with the rest. */

gapcam.audit = (() => {
  const { index, preview, decode, unpack } = gapcam.data;
  const { byId, element, named, percent, signed, pictures, label, visible } = gapcam.format;
  const { drawHeat, drawPhoto } = gapcam.drawing;
  const { outline } = gapcam.geometry;
  const { whenSeen } = gapcam.confusions;
  const state = gapcam.state;

  const SHOWN = 6; // members of a group
  const SIDE = 112; // of a photograph in pixels, at most, as in audit.css

  /* The cells of a picture's own grid, by number, that lie in cells (row, column) of the audit's. */
  function cellsOf({ rows, columns }, cells) {
    const [height, width] = index.audit.grid;
    const chosen = new Set(cells.map(([row, column]) => row * width + column));
    const scaled = (n, own, all) => Math.floor(((n + 0.5) * all) / own);
    return Array.from({ length: rows.length * columns.length }, (_, n) => n).filter((n) => {
      const [row, column] = [Math.floor(n / columns.length), n % columns.length];
      return chosen.has(scaled(row, rows.length, height) * width + scaled(column, columns.length, width));
    });
  }

  async function draw(button, number, cells) {
    const [[photo, under, heat], lines] = ["canvas", "path"].map((name) => button.querySelectorAll(name));
    const shown = await preview(number);
    const [image, values] = await Promise.all([decode(shown.thumbnail), unpack(shown.map)]);
    for (const canvas of [photo, under, heat]) {
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    }
    for (const canvas of [photo, under]) drawPhoto(canvas, image, shown.seen);
    drawHeat(heat, values, shown, { vmax: index.drawing.vmax, colormap: state.current.colormap, threshold: 0 });
    const path = outline(shown, cellsOf(shown, cells));
    for (const line of lines) line.setAttribute("d", path);
  }

  /* Canvases on top of each other, and lines around cells. */
  function shot(row, ...canvases) {
    const svg = byId("outline").cloneNode(true); // of the view of pictures
    svg.removeAttribute("id");
    for (const line of svg.children) line.removeAttribute("d");
    const box = element("span", "shot", ...canvases, svg);
    box.style.setProperty("--ratio", row.size[1] / row.size[0]);
    box.classList.toggle("pixelated", Math.max(...row.size) < SIDE);
    return box;
  }

  /* The photograph of a member, and next to it the same with its heat; it opens the picture. */
  function tile(number, cells, group) {
    const row = index.pictures[number];
    const withHeat = shot(row, element("canvas", "gray"), element("canvas", "heat"));
    const button = element("button", "member", shot(row, element("canvas")), withHeat);
    button.type = "button";
    button.title = button.ariaLabel = visible(row.path);
    button.addEventListener("click", () => open(group, number));
    whenSeen(button, () => draw(button, number, cells).catch(() => {}));
    return button;
  }

  /* Show the pictures of a group, at one of them. */
  function open(group, number) {
    state.set({ ...state.initial(gapcam.filter.keys), audit: group, view: "pictures" });
    state.open(number);
  }

  /* How often it happens by chance, in words. */
  function rarity(chance) {
    if (chance === null) return "There are too few classes to say how often this happens by chance.";
    const share = chance < 1e-6 ? "less than 1 in a million" : `1 of ${Math.round(1 / chance).toLocaleString("en")}`;
    return `By chance some class would stand out as much in ${share} runs.`;
  }

  function card(group, n) {
    const { class_idx: c, place, members, images, cells, logits, logits_of_others: others, correct } = group;
    const where = `${members.length} of ${images} pictures share evidence at the ${place}`;
    const title = element("h3", "", named(label(c)), `: ${where}`);
    const digits = Math.max(2, 1 - Math.floor(Math.log10(Math.abs(logits) || 1))); // two that say something
    const texts = [
      `The outlined cells add ${signed(logits, digits)} to their score on average,`,
      `${signed(others, digits)} to that of the others.`,
      `There the two lie ${group.separation.toFixed(1)} standard deviations apart.`,
      rarity(group.chance),
    ];
    const channels = group.channels.map(([channel]) => channel).join(", ");
    if (channels) texts.push(`Of the features, they have more of channels ${channels}.`);
    const known = correct !== null && group.correct_of_others !== null;
    if (known) texts.push(`Right: ${percent(correct)}, of the others ${percent(group.correct_of_others)}.`);
    const all = element("button", "", `Show ${pictures(members.length)}`);
    all.type = "button";
    all.addEventListener("click", () => open(n, members[0]));
    const tiles = element("div", "members", ...members.slice(0, SHOWN).map((number) => tile(number, cells, n)));
    return element("article", "", title, element("p", "", texts.join(" ")), tiles, all);
  }

  function show() {
    const [count, classes] = [index.audit.groups.length, Object.keys(index.audit.scatters).length];
    byId("audit").hidden = !classes; // not audited, or no class has enough pictures
    const found = count === 1 ? "1 group stands out" : `${count || "No"} groups stand out`;
    byId("audit-title").textContent = `${found} in ${classes} class${classes === 1 ? "" : "es"}`;
    byId("audit-groups").replaceChildren(...index.audit.groups.map(card));
  }

  return { show };
})();
