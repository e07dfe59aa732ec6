/* The arithmetic of evidence, as in cam/evidence.py: class activation maps M, and what they say of a class.
   A map is an array of places, row behind row. */

gapcam.evidence = (() => {
  const { index, weight } = gapcam.data;

  /* The map of a class in logits; null where it was not kept. */
  function cam(picture, c) {
    if (picture.kind === "features") return fromFeatures(picture, c);
    const row = picture.row ? picture.row.get(c) : c;
    return row === undefined ? null : picture.values.subarray(row * picture.places, (row + 1) * picture.places);
  }

  function fromFeatures({ values, scale, places }, c) {
    const map = new Float64Array(places);
    const channels = values.length / places;
    for (let k = 0, i = 0; k < channels; k++) {
      const w = scale * weight[c * channels + k];
      for (let p = 0; p < places; p++, i++) map[p] += w * values[i];
    }
    return map;
  }

  /* The evidence of a class at a place; a thousand of them take less than their maps. */
  function at(picture, c, place) {
    const { kind, values, scale, places } = picture;
    if (kind !== "features") return cam(picture, c)[place];
    const channels = values.length / places;
    let sum = 0;
    for (let k = 0, i = place; k < channels; k++, i += places) sum += weight[c * channels + k] * values[i];
    return scale * sum;
  }

  function classesOf(picture) {
    return picture.classes || index.labels.map((_, c) => c);
  }

  const kinds = {
    logit: (picture, c) => cam(picture, c),

    contrast(picture, c, against) {
      const [own, other] = [cam(picture, c), cam(picture, against)];
      return own && other && own.map((value, p) => value - other[p]);
    },

    margin(picture, c) {
      const own = cam(picture, c);
      if (!own) return null;
      const { best, winner, second } = picture.leaders;
      return own.map((value, p) => value - (winner[p] === c ? second[p] : best[p]));
    },

    posterior(picture, c) {
      const own = cam(picture, c);
      if (!own) return null;
      if (index.logistic) return own.map((value) => 1 / (1 + Math.exp(-value - index.bias[c])));
      const { total } = picture.leaders;
      return own.map((value, p) => Math.min(1, Math.exp(value + index.bias[c] - total[p]))); // both are rounded
    },
  };

  /* What a map of this kind says of a class; null where the maps it takes were not kept. */
  function map(picture, { evidence, class: c, against }) {
    return kinds[evidence](picture, c, against);
  }

  function mean(values) {
    let sum = 0;
    for (const value of values) sum += value;
    return sum / values.length;
  }

  const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  /* The classes with the most evidence at a place, of those whose maps were kept. */
  function strongest(picture, place, count) {
    const found = classesOf(picture).map((c) => ({ class: c, value: at(picture, c, place) }));
    return found.sort((a, b) => b.value - a.value || a.class - b.class).slice(0, count);
  }

  /* Of a picture; where there is one logit, both classes are among those told. */
  function probability(row, picture, c) {
    const told = row.top.find(([other]) => other === c);
    if (told) return told[2];
    const [, logit, share] = row.top[0];
    return share * Math.exp(picture.logits[c] - logit);
  }

  /* Whether the maps are those of a larger input than the prediction's. */
  const isFiner = ({ logits, mapLogits }) => mapLogits !== logits;

  return { map, cam, mean, largest, strongest, probability, isFiner };
})();
