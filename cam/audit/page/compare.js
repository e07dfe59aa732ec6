/* The page of a comparison: cards of the images of a verdict, each with its heat in both runs and the difference. */

document.addEventListener("DOMContentLoaded", () => {
  const { index, unpack, decode } = gapcam.data;
  const { byId, element, named, visible, signed, plain, percent, pictures } = gapcam.format;
  const { drawHeat, drawPhoto } = gapcam.drawing;
  const { peak } = gapcam.evidence;
  const { summary, rows, verdicts } = index;
  const PAGE = 20; // cards shown at once
  const SIDE = 320; // longer side of a canvas, pixels
  const NAMES = { moved: "same answer, from another place", same: "same answer" };
  const nameOf = (verdict) => NAMES[verdict] || verdict;
  const first = Object.keys(verdicts).find((one) => summary.verdicts[one]) ?? Object.keys(verdicts)[0];
  const current = { verdict: first, class: "", count: PAGE };

  function fillOverview() {
    byId("title").textContent = visible(index.title);
    byId("made-with").textContent = `gapcam ${index.version}, cam compare`;
    const lines = ["a", "b"].map((key) => {
      const { out, model, weights, accuracy } = summary[key];
      const accurate = accuracy === null ? "" : `${percent(accuracy)} right`;
      const cells = [named(model), `weights ${weights.slice(0, 12)}`, accurate, named(out, "path")];
      const head = element("th", "", element("b", "", key.toUpperCase()));
      return element("tr", "", head, ...cells.map((cell) => element("td", "", cell)));
    });
    byId("runs").tBodies[0].append(...lines);
    const differ = summary.differ.map(({ text }) => text);
    const parts = [`${pictures(summary.compared)} compared`];
    if (summary.with_truth) parts.push(`${summary.with_truth} with a known class`);
    parts.push(differ.length ? `the runs differ in ${differ.join(", ")}` : "no setting differs");
    byId("counted").textContent = visible(`${parts.join("; ")}.`);
    const notes = ["a", "b"].map((key) => [key, summary[`only_in_${key}`].count]).filter(([, count]) => count);
    const remarks = [...notes.map(([key, count]) => `${pictures(count)} explained in ${key.toUpperCase()} only`)];
    byId("notes").append(...[...remarks, ...summary.notes].map((note) => element("li", "", visible(note))));
    byId("failures").hidden = !summary.failed;
    byId("failures").firstChild.textContent = `${pictures(summary.failed)} not compared`;
    byId("failures").lastChild.append(...index.failed.map(({ error }) => element("li", "", named(error))));
  }

  function fillClasses() {
    const keys = Object.keys(verdicts);
    const head = element("tr", "", element("th", "", summary.with_truth ? "true class" : "A's answer"));
    head.append(...keys.map((key) => element("th", "", nameOf(key))));
    const lines = summary.by_class.map((counts) => {
      const label = element("th", "", named(counts.label));
      return element("tr", "", label, ...keys.map((key) => element("td", "", counts[key] ? `${counts[key]}` : "")));
    });
    byId("classes").querySelector("table").append(element("thead", "", head), element("tbody", "", ...lines));
    summary.by_class.forEach(({ label }) => {
      const option = element("option", "", visible(label));
      option.value = label;
      byId("class").append(option);
    });
  }

  function fillFilters() {
    const buttons = Object.keys(verdicts).map((verdict) => {
      const button = element("button", "", `${nameOf(verdict)} ${summary.verdicts[verdict]}`);
      button.type = "button";
      button.value = verdict;
      button.addEventListener("click", () => show({ verdict, count: PAGE }));
      return button;
    });
    byId("filters").append(...buttons);
  }

  const answerOf = ({ label, probability, correct }) => {
    const parts = [named(label), probability === null ? "" : ` ${percent(probability)}`];
    return element("span", correct === null ? "" : correct ? "right" : "wrong", ...parts);
  };

  function headingOf(row) {
    const heading = element("h2", "", named(row.name));
    const line = element("p", "answer", element("span", "tag", nameOf(row.verdict)));
    const moved = row.moved === null ? "" : `; ${Math.round(100 * row.moved)} % of the evidence moved`;
    const same = row.verdict === "moved" || row.verdict === "same";
    const labels = same && row.a.label === row.b.label ? [answerOf(row.a), " in A, ", percentOf(row.b), " in B"] : null;
    line.append(...(labels || [answerOf(row.a), " \u2192 ", answerOf(row.b)]), moved);
    if (row.truth !== null && !(row.a.correct || row.b.correct)) line.append("; true class ", named(row.truth));
    return [heading, line];
  }
  const percentOf = ({ probability }) => (probability === null ? "the same" : percent(probability));

  const CAPTIONS = ["A", "B", "B \u2212 A"];

  function captionOf(panel, side) {
    const map = panel.maps[side];
    const caption = element("figcaption", "", element("b", "", CAPTIONS[side]));
    if (side < 2) caption.append(" ", named(panel.labels[side]), map ? ` ${plain(map.score, 2)}` : "");
    if (side < 2 || !map) return caption;
    if (!map.same_grid) {
      caption.append(` ${signed(map.score, 2)} logits; other grids: subtracted on the photograph`);
    } else {
      const [total, cells, bias] = [map.score, map.score - map.base, map.base].map((value) => signed(value, 2));
      const word = summary.a.method === "exact" && summary.b.method === "exact" ? "bias" : "base";
      caption.append(` ${total} = cells ${cells}, ${word} ${bias}`);
    }
    return caption;
  }

  const layer = document.createElement("canvas");

  /* Draw heat over a gray photograph, or over gray. */
  function draw(canvas, map, values, image, vmax) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = !image || image.width > width / 2;
    if (image) drawPhoto(canvas, image, map.seen);
    context.globalCompositeOperation = image ? "saturation" : "source-over";
    context.fillStyle = "#8c8c8c";
    context.fillRect(0, 0, width, height);
    Object.assign(layer, { width, height });
    drawHeat(layer, values, map, { vmax, colormap: "signed", threshold: 0 });
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 0.85;
    context.drawImage(layer, 0, 0);
  }

  function stageOf(map, [height, width], side) {
    if (!map) return element("p", "stage", side === 2 ? "No difference: only one run kept the map." : "Not kept.");
    const canvas = element("canvas", "stage");
    const scale = SIDE / Math.max(height, width);
    canvas.width = Math.max(1, Math.round(scale * width));
    canvas.height = Math.max(1, Math.round(scale * height));
    canvas.setAttribute("aria-hidden", "true");
    return canvas;
  }

  /* Append the panels of an image to its card, and draw them. */
  async function fillPanels(card, row) {
    const stages = [];
    for (const panel of row.panels) {
      const figures = panel.maps.map((map, side) => {
        const stage = stageOf(map, row.size, side);
        if (map) stages.push([stage, map]);
        return element("figure", "", stage, captionOf(panel, side));
      });
      card.append(element("div", "panel", ...figures));
    }
    const image = row.photo && (await decode(row.photo));
    const values = await Promise.all(stages.map(([, map]) => unpack(map.values)));
    const vmax = byId("scale").value === "all" ? index.vmax : Math.max(...values.map(peak)) || 1;
    stages.forEach(([canvas, map], n) => draw(canvas, map, values[n], image, vmax));
  }

  async function show(change) {
    const isMore = Object.keys(change).join() === "count" && change.count > PAGE;
    Object.assign(current, change);
    const all = rows.filter(({ verdict }) => verdict === current.verdict);
    const listed = all.filter(({ truth, a }) => !current.class || (truth ?? a.label) === current.class);
    const total = summary.verdicts[current.verdict] || 0;
    delete document.documentElement.dataset.shown;
    for (const button of byId("filters").children) {
      button.setAttribute("aria-pressed", button.value === current.verdict);
    }
    const end = byId("scale").value === "all" ? index.vmax.toPrecision(3) : "";
    byId("low").textContent = `\u2212${end} against, less in B`;
    byId("high").textContent = `for, more in B +${end}`;
    const first = total > all.length ? `; the ${all.length} most moved are in this page, all in compare.json` : "";
    const filtered = current.class ? `; ${listed.length} of this class` : "";
    const meaning = `${pictures(total)}: ${verdicts[current.verdict]}`;
    byId("meaning").textContent = `${meaning}${first}${filtered}. Most moved first.`;
    const start = isMore ? byId("cards").children.length : 0;
    if (!isMore) byId("cards").replaceChildren();
    const more = listed.slice(start, current.count);
    const cards = more.map((row) => [element("article", `card ${row.verdict}`, ...headingOf(row)), row]);
    byId("cards").append(...cards.map(([card]) => card));
    const rest = listed.length - current.count;
    byId("more").hidden = rest <= 0;
    byId("more").textContent = `Show ${Math.min(PAGE, rest)} more`;
    for (const [card, row] of cards) await fillPanels(card, row);
    document.documentElement.dataset.shown = `${current.verdict} ${byId("cards").children.length}`;
  }

  fillOverview();
  fillClasses();
  fillFilters();
  gapcam.color.drawBar(byId("bar"), "signed", true);
  byId("class").addEventListener("change", (event) => show({ class: event.target.value, count: PAGE }));
  byId("scale").addEventListener("change", () => show({ count: PAGE }));
  byId("more").addEventListener("click", () => show({ count: current.count + PAGE }));
  show({ count: PAGE });
});
