/* Filters and order of the list. */

gapcam.filter = (() => {
  const { index } = gapcam.data;
  const { findClasses } = gapcam.format;

  const isWrong = ({ truth, top }) => truth !== null && truth !== top[0][0];
  const leadOf = ({ top }) => (top.length > 1 ? top[0][1] - top[1][1] : Infinity);

  const measures = {
    input: (_, number) => number,
    confidence: ({ top }) => top[0][2] ?? top[0][1],
    self_confidence: ({ self_confidence: share }) => share ?? Infinity,
    margin: leadOf,
    completeness: ({ completeness }) => completeness,
    border: ({ border }) => border,
  };

  /* The mean probability of each class in the pictures with that label: a picture with another label for which a class
     has more is probably labeled wrongly (confident learning, Northcutt et al. 2021). */
  const means = new Map();
  for (const { truth, self_confidence: share } of index.pictures) {
    if (truth === null || share === null) continue;
    const [sum, count] = means.get(truth) ?? [0, 0];
    means.set(truth, [sum + share, count + 1]);
  }
  function mayBeMislabeled(row) {
    const [predicted, , probability] = row.top[0];
    const [sum, count] = means.get(predicted) ?? [Infinity, 1];
    return isWrong(row) && probability !== null && probability >= sum / count;
  }

  const setOf = new Map(index.audit.duplicates.flatMap((numbers, n) => numbers.map((number) => [number, n])));

  /* The values of "Show". */
  const shown = {
    all: () => true,
    wrong: isWrong,
    right: (row) => row.truth !== null && !isWrong(row),
    labels: mayBeMislabeled,
    alike: (row, number) => setOf.has(number),
  };

  function textsOf({ path, top, truth }, number) {
    const { tags, note } = gapcam.notes.of(number);
    const label = truth === null ? "" : index.labels[truth];
    return [path, index.labels[top[0][0]], label, ...tags, note].join("\n").toLowerCase();
  }

  /* For the value of each filter that is set, a function that tells which pictures pass. */
  const filters = {
    show: (show) => shown[show],
    margin: (margin) => (row) => leadOf(row) < margin,
    of(text) {
      const classes = new Set(findClasses(text));
      return ({ top, truth }) => classes.has(top[0][0]) || classes.has(truth);
    },
    confusion: (pair) => (row) => isWrong(row) && pair === `${row.truth}>${row.top[0][0]}`,
    audit(group) {
      const members = new Set(index.audit.groups[group].members);
      return (row, number) => members.has(number);
    },
    selected: (only) => (_, number) => only === "off" || gapcam.selection.has(number),
    text: (text) => (row, number) => textsOf(row, number).includes(text.toLowerCase()),
  };

  /* Numbers of the pictures that pass every filter, sorted; ties stay in the order of the inputs. */
  function listed(state) {
    const measure = measures[state.sort];
    const sign = state.order === "up" ? 1 : -1;
    const bySet = state.show === "alike";
    const isSet = ([key]) => state[key] !== null && state[key] !== "";
    const tests = Object.entries(filters).filter(isSet).map(([key, filter]) => filter(state[key]));
    return index.pictures
      .map((row, number) => ({ number, row, key: measure(row, number), set: setOf.get(number) }))
      .filter(({ row, number }) => tests.every((test) => test(row, number)))
      .sort((a, b) => (bySet ? a.set - b.set : 0) || sign * (a.key - b.key) || a.number - b.number)
      .map(({ number }) => number);
  }

  return { listed, isWrong, leadOf, keys: [...Object.keys(filters), "sort", "order"] };
})();
