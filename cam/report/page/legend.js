/* The legend below the photograph: the color scale, and what its colors mean. */

gapcam.legend = (() => {
  const { index } = gapcam.data;
  const { peak } = gapcam.evidence;
  const { byId, named, percent, plain, label } = gapcam.format;
  const { drawBar, hasNegative } = gapcam.color;
  const { scaleOf } = gapcam.state;

  /* The end of the color scale of a map, and what the scale is for. */
  function rangeOf(values, current) {
    if (scaleOf(current) === "picture") return [peak(values) || 1, "scale of this picture"];
    const vmax = current.evidence === "posterior" ? 1 : index.drawing.vmax;
    return [vmax, "same scale for all pictures"];
  }

  /* What the heat shows, what its colors mean, and what stands at the ends of the scale: texts, with classes as
     numbers. `high` and `low` name the colors. */
  function describe({ class: target, against, evidence }, high = "warm", low = "cold") {
    const texts = {
      logit: {
        caption: ["Evidence for ", target],
        colors: [`${high} speaks for it, ${low} against it`],
        ends: [["against"], ["for"]],
      },
      contrast: {
        caption: ["Evidence for ", target, " over ", against],
        colors: [`${high} for `, target, `, ${low} for `, against],
        ends: [[against], [target]],
      },
      margin: {
        caption: ["Where ", target, " leads all other classes"],
        colors: [`${high} where it does, ${low} where another leads`],
        ends: [["another leads"], [target]],
      },
      posterior: {
        caption: ["Probability of ", target, " from each cell alone"],
        colors: ["the more color, the more probable"],
        ends: [[], ["probable"]],
      },
    };
    return texts[evidence];
  }

  const oneSided = ["the more color, the more of it; the opposite is left out"];
  const elements = (parts) => parts.map((part) => (typeof part === "number" ? named(label(part)) : part));

  /* Show the scale, up to `vmax`, of a map of the selected classes. */
  function show(classes, { colormap, opacity }, vmax, scaleName) {
    const isProbability = classes.evidence === "posterior";
    const isSigned = !isProbability && hasNegative(colormap);
    drawBar(byId("bar"), colormap, isSigned, opacity);
    const format = isProbability ? percent : (value) => plain(value, 1);
    byId("low").textContent = format(isSigned ? -vmax : 0);
    byId("middle").textContent = isSigned ? "0" : format(vmax / 2);
    byId("high").textContent = format(vmax);
    const names = colormap === "signed" ? ["warm", "cold"] : ["right of 0", "left of 0"];
    const { caption, colors, ends } = describe(classes, ...names);
    const meaning = isSigned || isProbability ? colors : oneSided;
    byId("caption").replaceChildren(...elements(caption), ": ", ...elements(meaning));
    byId("low-name").replaceChildren(...(isSigned ? [...elements(ends[0]), " \u2190"] : []));
    byId("high-name").replaceChildren("\u2192 ", ...elements(ends[1]));
    byId("scale-note").textContent = `${isProbability ? "probability of each cell" : "logits"}, ${scaleName}`;
  }

  return { rangeOf, describe, show };
})();
