/* The answer in a sentence or two, and the outline of the cells that it points at. */

gapcam.answer = (() => {
  const { index } = gapcam.data;
  const { probability, isFiner, baseOf, missedOf, isReference } = gapcam.evidence;
  const { byId, element, named, signed, plain, percent, label } = gapcam.format;
  const { outline } = gapcam.geometry;
  const { rivals } = gapcam.classes;

  const CLOSE = 20; // hundredths of a logit
  const [bias, biases] = index.method ? ["base", "bases"] : ["bias", "biases"];
  const isValue = index.activation === "none";
  const hundredths = (value) => Math.round(100 * value);

  /* The fewest cells that together have more than half of the positive evidence. */
  function mostOf(values) {
    const positive = [...values.keys()].filter((cell) => values[cell] > 0);
    positive.sort((a, b) => values[b] - values[a] || a - b);
    let rest = positive.reduce((sum, cell) => sum + values[cell], 0) / 2;
    const count = positive.findIndex((cell) => (rest -= values[cell]) < 0) + 1;
    return positive.slice(0, count);
  }

  /* The positive and negative parts of a total, the bias, and what these miss, in hundredths that add up to it. */
  function partsOf(values, bias, missed, total) {
    const part = (sign) => values.reduce((sum, value) => sum + sign * Math.max(0, sign * value), 0) / values.length;
    const [positive, negative] = [hundredths(part(1)), hundredths(part(-1))];
    const parts = { positive, negative, bias: hundredths(bias), missed: hundredths(missed) };
    const rest = hundredths(total) - positive - negative - parts.bias - parts.missed; // of rounding
    parts[parts.positive + parts.negative < 0 ? "negative" : "positive"] += rest;
    return parts;
  }

  /* What speaks for one side and the other: text and elements. */
  function sides({ positive, negative, bias, missed }, here, one, other, ofBias) {
    const number = (part) => signed(part / 100, 2);
    const speaks = [`${number(positive)} speaks for `, one, ", more than half of it from ", ...here];
    const most = here.length ? speaks : ["no cell speaks for ", one];
    const counter = negative ? [`, ${number(negative)} `, ...other] : [];
    const ends = [bias && `, ${ofBias} ${number(bias)}`, missed && `, with ${number(missed)} missing`];
    return [...most, ...counter, ...ends.filter(Boolean)];
  }

  /* What a map shows that does not add up. */
  function shows(one, here) {
    const { name } = index.method;
    if (!here.length) return [`: ${name} shows nothing for `, one];
    return [`: most of what ${name} shows for `, one, " is ", ...here];
  }

  /* The logit that the map adds up to, as exact as the list has it. */
  function logitOf(row, picture, c) {
    const listed = row.top.find(([other]) => other === c);
    return listed && !isFiner(picture) ? listed[1] : picture.mapLogits[c];
  }

  const resolution = (picture) => (isFiner(picture) ? " at this resolution" : "");

  /* By how much one class leads another. */
  function leads(row, picture, one, other) {
    const lead = hundredths(logitOf(row, picture, one) - logitOf(row, picture, other));
    const amount = `${plain(Math.abs(lead) / 100, 2)}${isValue ? "" : " logits"}${resolution(picture)}`;
    const close = !isValue && Math.abs(lead) < CLOSE ? ", a close call" : "";
    return [lead < 0 ? " trails " : " leads ", named(label(other)), ` by ${amount}${close}`];
  }

  /* What the heat of each kind of evidence shows; `here` is empty if no cell is positive, null if there is no map. */
  const sentences = {
    logit(row, picture, { class: c }, values, here) {
      const [share, total] = [probability(row, picture, c), logitOf(row, picture, c)];
      const logit = `${plain(total, 2)}${resolution(picture)}`;
      const claim = [named(label(c)), `, ${isValue ? logit : percent(share)}`];
      if (!here) return [...claim, "; the map that says where it comes from is not stored"];
      if (isReference) return [...claim, ...shows("it", here)];
      const parts = partsOf(values, baseOf(picture, c), missedOf(picture, c), total);
      const largest = Math.max(-parts.negative, Math.abs(parts.bias), Math.abs(parts.missed));
      const isMost = here.length && largest <= parts.positive / 2;
      if (isMost) return [...claim, ": most of the evidence for it comes from ", ...here];
      const name = isValue ? ": " : `, logit ${logit}: `;
      return [...claim, name, ...sides(parts, here, "it", ["against it"], `and its ${bias} gives`)];
    },

    contrast(row, picture, { class: c, against }, values, here) {
      const claim = [named(label(c)), ...leads(row, picture, c, against)];
      if (!here) return [...claim, "; the map that says where it comes from is not stored"];
      const total = logitOf(row, picture, c) - logitOf(row, picture, against);
      if (isReference) return [...claim, ...shows(named(label(c)), here)];
      const [base, missed] = [baseOf, missedOf].map((of) => of(picture, c) - of(picture, against));
      const other = ["for ", named(label(against))];
      const parts = partsOf(values, base, missed, total);
      return [...claim, ": ", ...sides(parts, here, named(label(c)), other, `and the ${biases} give`)];
    },

    margin(row, picture, { class: c }, values, here) {
      const count = values.filter((value) => value > 0).length;
      const claim = [named(label(c)), ` leads all other classes in ${count} of ${values.length} cells`];
      return here.length ? [...claim, "; most of its lead there comes from ", ...here] : claim;
    },

    posterior(row, picture, { class: c }, values, here) {
      if (!here.length) return [named(label(c)), " has no probability in any cell"];
      return ["Cell by cell, most of the probability of ", named(label(c)), " is ", ...here];
    },
  };

  /* By how much the class of the logit view leads the others, or trails the prediction. */
  function second(row, picture, { class: c, evidence, against }) {
    const predicted = row.top[0][0];
    const others = c === predicted ? rivals(row, { class: c, evidence, against }) : [predicted];
    const claims = others.map((other) => leads(row, picture, c, other));
    return claims.length ? ["It", ...claims[0], ...(claims[1] ? [", and", ...claims[1]] : []), "."] : [];
  }

  /* Say what the heat, `values`, shows, and outline where; null if its maps are not stored. */
  function show(row, picture, classes, values) {
    const { evidence } = classes;
    const cells = values ? mostOf(values) : [];
    const where = [element("strong", "here", "here"), ` (${cells.length} of ${values?.length} cells, outlined)`];
    const here = values && (cells.length ? where : []);
    const sentence = sentences[values || evidence === "contrast" ? evidence : "logit"];
    byId("answer").replaceChildren(...sentence(row, picture, classes, values, here), ".");
    byId("lead").replaceChildren(...(evidence === "logit" ? second(row, picture, classes) : []));
    for (const line of byId("outline").children) line.setAttribute("d", outline(picture, cells));
  }

  function clear() {
    for (const id of ["answer", "lead"]) byId(id).replaceChildren();
    for (const line of byId("outline").children) line.removeAttribute("d");
  }

  return { show, clear };
})();
