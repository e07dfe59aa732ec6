/* The arithmetic of evidence, as in cam/evidence.py: class activation maps M, and what they say of a class.
   A map is a Float32Array of places, row behind row. */

gapcam.evidence = (() => {
  const { index } = gapcam.data;
  const MARGIN_OF_ROUNDING = 2 ** -10;

  /* The map of a class in logits; null where it was not kept. */
  function cam(picture, c) {
    const row = picture.row ? picture.row.get(c) : c;
    return row === undefined ? null : picture.maps.subarray(row * picture.places, (row + 1) * picture.places);
  }

  function classesOf(picture) {
    return picture.classes || index.labels.map((_, c) => c);
  }

  /* Of each place the largest evidence, its class, the next, and log of the sum over classes of exp(M + bias). */
  function leaders(picture) {
    if (!picture.leaders) picture.leaders = picture.kept ? unfold(picture) : computed(picture);
    return picture.leaders;
  }

  function unfold({ kept, places }) {
    const [best, winner, second, total] = [0, 1, 2, 3].map((n) => kept.subarray(n * places, (n + 1) * places));
    return { best, winner: winner.map((value) => Math.round(value / MARGIN_OF_ROUNDING)), second, total };
  }

  function computed(picture) {
    const { places, maps } = picture;
    const [best, second, peak] = [0, 0, 0].map(() => new Float32Array(places).fill(-Infinity));
    const [winner, sum] = [new Float32Array(places), new Float64Array(places)];
    for (let c = 0, i = 0; c < index.labels.length; c++) {
      for (let p = 0; p < places; p++, i++) {
        const value = maps[i];
        if (value > best[p]) {
          second[p] = best[p];
          best[p] = value;
          winner[p] = c;
        } else if (value > second[p]) second[p] = value;
        peak[p] = Math.max(peak[p], value + index.bias[c]);
      }
    }
    for (let c = 0, i = 0; c < index.labels.length; c++) {
      for (let p = 0; p < places; p++, i++) sum[p] += Math.exp(maps[i] + index.bias[c] - peak[p]);
    }
    return { best, winner, second, total: peak.map((value, p) => value + Math.log(sum[p])) };
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
      const { best, winner, second } = leaders(picture);
      return own.map((value, p) => value - (winner[p] === c ? second[p] : best[p]));
    },

    posterior(picture, c) {
      const own = cam(picture, c);
      if (!own) return null;
      if (index.logistic) return own.map((value) => 1 / (1 + Math.exp(-value - index.bias[c])));
      const { total } = leaders(picture);
      return own.map((value, p) => Math.exp(value + index.bias[c] - total[p]));
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

  /* The classes with the most evidence at a place, of those whose maps were kept. */
  function strongest(picture, place, count) {
    const found = classesOf(picture).map((c) => ({ class: c, value: cam(picture, c)[place] }));
    return found.sort((a, b) => b.value - a.value || a.class - b.class).slice(0, count);
  }

  /* Of a picture: softmax, or the logistic function where there is one logit. */
  function probability(row, picture, c) {
    const told = row.top.find(([other]) => other === c);
    if (told) return told[2];
    if (index.logistic) return 1 / (1 + Math.exp(-picture.logits[c]));
    const [, logit, share] = row.top[0];
    return share * Math.exp(picture.logits[c] - logit);
  }

  /* Whether the maps are those of a larger input than the prediction's. */
  const isFiner = ({ logits, mapLogits }) => mapLogits !== logits;

  return { map, cam, mean, strongest, probability, leaders, isFiner };
})();
