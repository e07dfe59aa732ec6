/* Which true classes were taken for which, counted over the pictures that have a true class. */

gapcam.counts = (() => {
  const { index } = gapcam.data;

  const pictures = new Map(); // "truth>predicted" -> numbers of pictures, the most confident first
  const [ofTruth, ofPrediction] = [new Map(), new Map()]; // class -> Map of the other class -> number of pictures

  function add(counts, c, other) {
    if (!counts.has(c)) counts.set(c, new Map());
    counts.get(c).set(other, (counts.get(c).get(other) ?? 0) + 1);
  }

  index.pictures.forEach(({ truth, top: [[predicted]] }, number) => {
    if (truth === null) return;
    const pair = `${truth}>${predicted}`;
    if (!pictures.has(pair)) pictures.set(pair, []);
    pictures.get(pair).push(number);
    add(ofTruth, truth, predicted);
    add(ofPrediction, predicted, truth);
  });
  const confidence = (number) => index.pictures[number].top[0][2] ?? index.pictures[number].top[0][1];
  for (const numbers of pictures.values()) numbers.sort((a, b) => confidence(b) - confidence(a) || a - b);

  const total = (counts) => [...(counts?.values() ?? [])].reduce((sum, count) => sum + count, 0);
  const count = (truth, predicted) => ofTruth.get(truth)?.get(predicted) ?? 0;
  const labeled = index.pictures.filter(({ truth }) => truth !== null).length;
  const right = [...ofTruth.keys()].reduce((sum, c) => sum + count(c, c), 0);

  /* Shares of the right predictions; NaN if there are none to be right. */
  const precision = (c) => count(c, c) / total(ofPrediction.get(c));
  const recall = (c) => count(c, c) / total(ofTruth.get(c));
  const accuracy = right / labeled;
  const wrong = labeled - right;

  /* The other classes that a class was taken for, or that were taken for it, with their counts, most frequent first. */
  const others = (counts, c) =>
    [...(counts.get(c) ?? [])].filter(([other]) => other !== c).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const takenFor = (c) => others(ofTruth, c);
  const mistakenFor = (c) => others(ofPrediction, c);

  const trueCount = (c) => total(ofTruth.get(c));
  const picturesOf = (truth, predicted) => pictures.get(`${truth}>${predicted}`) ?? [];

  return { labeled, accuracy, wrong, count, trueCount, precision, recall, takenFor, mistakenFor, picturesOf };
})();
