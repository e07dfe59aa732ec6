/* Kinds of evidence, computed from class activation maps M as in cam/maps/evidence.py. A map is an array of cells,
   row by row. */

gapcam.evidence = (() => {
  const { index, weight } = gapcam.data;

  /* The map of a class in logits; null if it is not stored. */
  function cam(picture, c) {
    if (picture.kind === "features") return fromFeatures(picture, c);
    const { position, values, cells } = picture;
    const n = position ? position.get(c) : c;
    return n === undefined ? null : values.subarray(n * cells, (n + 1) * cells);
  }

  function fromFeatures({ values, scale, cells }, c) {
    const map = new Float64Array(cells);
    const channels = values.length / cells;
    for (let k = 0, i = 0; k < channels; k++) {
      const w = scale * weight[c * channels + k];
      for (let n = 0; n < cells; n++, i++) map[n] += w * values[i];
    }
    return map;
  }

  /* The evidence of a class at one cell, which takes less than its whole map. */
  function valueAt(picture, c, cell) {
    const { kind, values, scale, cells } = picture;
    if (kind !== "features") return cam(picture, c)[cell];
    const channels = values.length / cells;
    let sum = 0;
    for (let k = 0, i = cell; k < channels; k++, i += cells) sum += weight[c * channels + k] * values[i];
    return scale * sum;
  }

  function classesOf(picture) {
    return picture.classes || index.labels.map((_, c) => c);
  }

  /* The part of a logit that comes from no cell, and how much of it map and this part miss, but for rounding. */
  const baseOf = ({ position, bases }, c) => (bases ? bases[position.get(c)] : index.bias[c]);
  const missedOf = ({ position, missed }, c) => (missed ? missed[position.get(c)] : 0);
  const isReference = Boolean(index.method && !index.method.runs);

  /* How a map was made, and how well it adds up; "" if it is exact or not stored. */
  function methodOf(picture, { evidence, class: c, against }) {
    const classes = evidence === "contrast" ? [c, against] : [c];
    if (!index.method || classes.some((one) => !cam(picture, one))) return "";
    const { name, runs } = index.method;
    if (isReference) return `${name}: not complete, it does not add up to the logit`;
    const [missed, other = 0] = classes.map((one) => missedOf(picture, one));
    const [sum, otherSum = 0] = classes.map((one) => picture.mapLogits[one] - baseOf(picture, one));
    const error = Math.max(1e-4, Math.abs(missed - other) / Math.max(1e-30, Math.abs(sum - otherSum)));
    const count = Math.max(...classes.map((one) => picture.runs[picture.position.get(one)]));
    const counted = count === 1 ? runs.slice(0, -1) : runs;
    return `complete to ${Number((100 * error).toPrecision(1))} %, ${name}, ${count} ${counted}`;
  }

  const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

  const kinds = {
    logit: (picture, c) => cam(picture, c),

    contrast(picture, c, against) {
      const [map, other] = [cam(picture, c), cam(picture, against)];
      return map && other && map.map((value, n) => value - other[n]);
    },

    margin(picture, c) {
      const map = cam(picture, c);
      if (!map) return null;
      const { best, winner, second } = picture.leaders;
      return map.map((value, n) => value - (winner[n] === c ? second[n] : best[n]));
    },

    posterior(picture, c) {
      const map = cam(picture, c);
      if (!map) return null;
      if (index.activation === "sigmoid") return map.map((value) => sigmoid(value + index.bias[c]));
      const { total } = picture.leaders;
      return map.map((value, n) => Math.min(1, Math.exp(value + index.bias[c] - total[n]))); // both are rounded
    },
  };

  /* The map of this kind of evidence; null if the maps that it needs are not stored. */
  function map(picture, { evidence, class: c, against }) {
    return kinds[evidence](picture, c, against);
  }

  function mean(values) {
    let sum = 0;
    for (const value of values) sum += value;
    return sum / values.length;
  }

  const peak = (values) => values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);

  /* The classes with the most evidence at a cell, among the stored ones. */
  function strongest(picture, cell, count) {
    const classes = classesOf(picture).map((c) => ({ class: c, value: valueAt(picture, c, cell) }));
    return classes.sort((a, b) => b.value - a.value || a.class - b.class).slice(0, count);
  }

  /* The probability of a class; null if the scores are values. */
  function probability(row, picture, c) {
    const listed = row.top.find(([other]) => other === c);
    if (listed) return listed[2];
    if (index.activation !== "softmax") return index.activation === "none" ? null : sigmoid(picture.logits[c]);
    const [, logit, share] = row.top[0];
    return share * Math.exp(picture.logits[c] - logit);
  }

  /* True if the maps come from a larger input than the prediction. */
  const isFiner = ({ logits, mapLogits }) => mapLogits !== logits;

  const adding = { baseOf, missedOf, methodOf, isReference };
  return { map, cam, mean, peak, strongest, probability, isFiner, ...adding };
})();
