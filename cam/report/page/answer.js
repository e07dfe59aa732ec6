/* The answer in a sentence, and the outline of the cells that it points at. */

gapcam.answer = (() => {
  const { index } = gapcam.data;
  const { map, cam, isFiner } = gapcam.evidence;
  const { byId, element, named, plain, label } = gapcam.format;
  const { outline } = gapcam.geometry;

  const unit = index.activation === "none" ? "" : " logits";

  /* The fewest cells that together have more than half of the positive evidence. */
  function mostOf(values) {
    const positive = [...values.keys()].filter((cell) => values[cell] > 0);
    positive.sort((a, b) => values[b] - values[a] || a - b);
    let rest = positive.reduce((sum, cell) => sum + values[cell], 0) / 2;
    const count = positive.findIndex((cell) => (rest -= values[cell]) < 0) + 1;
    return positive.slice(0, count);
  }

  /* The selected classes, the one with the larger score first; the second is undefined if there is only one. */
  function leaderAndRival({ mapLogits }, { class: target, against }) {
    const trails = against !== undefined && mapLogits[against] > mapLogits[target];
    return trails ? [against, target] : [target, against];
  }

  /* Where a lead comes from: text and elements. */
  function reason(values, cells, lead, ofBias) {
    if (!values) return ["; the map that says where it comes from is not stored"];
    if (!cells.length) return ["; no cell speaks for it"];
    const isBias = ofBias > lead / 2;
    const most = isBias ? `its bias gives ${plain(ofBias, 2)}, most of the evidence` : "most of it";
    const count = cells.length === 1 ? "the outlined cell" : `the ${cells.length} outlined cells`;
    return [`; ${most} comes from `, element("strong", "here", "here"), ` (${count} of ${values.length})`];
  }

  /* Show why the leading one of the selected classes leads. */
  function show(picture, classes) {
    const [leader, rival] = leaderAndRival(picture, classes);
    const isAlone = rival === undefined;
    const contrast = { evidence: "contrast", class: leader, against: rival };
    const values = isAlone ? cam(picture, leader) : map(picture, contrast);
    const cells = values ? mostOf(values) : [];
    const { mapLogits } = picture;
    const lead = mapLogits[leader] - (isAlone ? 0 : mapLogits[rival]);
    const ofBias = index.bias[leader] - (isAlone ? 0 : index.bias[rival]);
    const claim = isAlone ? [" reaches "] : [" leads ", named(label(rival)), " by "];
    const amount = `${plain(lead, 2)}${unit}${isFiner(picture) ? " at this resolution" : ""}`;
    byId("answer").replaceChildren(named(label(leader)), ...claim, amount, ...reason(values, cells, lead, ofBias), ".");
    for (const line of byId("outline").children) line.setAttribute("d", outline(picture, cells));
  }

  function clear() {
    byId("answer").replaceChildren();
    for (const line of byId("outline").children) line.removeAttribute("d");
  }

  return { show, clear };
})();
