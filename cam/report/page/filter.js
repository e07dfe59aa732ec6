/* Filters and order of the list. */

gapcam.filter = (() => {
  const { index } = gapcam.data;
  const { findClasses } = gapcam.format;

  const isWrong = ({ truth, top }) => truth !== null && truth !== top[0][0];
  const leadOf = ({ top }) => (top.length > 1 ? top[0][1] - top[1][1] : Infinity);

  const measures = {
    input: (_, number) => number,
    confidence: ({ top }) => top[0][2] ?? top[0][1],
    margin: leadOf,
    completeness: ({ completeness }) => completeness,
    border: ({ border }) => border,
  };

  function textsOf({ path, top, truth }) {
    return [path, index.labels[top[0][0]], truth === null ? "" : index.labels[truth]].join("\n").toLowerCase();
  }

  /* For the value of each filter that is set, a function that tells which pictures pass. */
  const filters = {
    show: (show) => (row) => show === "all" || (row.truth !== null && isWrong(row) === (show === "wrong")),
    margin: (margin) => (row) => leadOf(row) < margin,
    of(text) {
      const classes = new Set(findClasses(text));
      return ({ top, truth }) => classes.has(top[0][0]) || classes.has(truth);
    },
    confusion: (pair) => (row) => isWrong(row) && pair === `${row.truth}>${row.top[0][0]}`,
    audit(group) {
      const members = new Set(index.audit[group].members);
      return (row, number) => members.has(number);
    },
    selected: (only) => (_, number) => only === "off" || gapcam.selection.has(number),
    text: (text) => (row) => textsOf(row).includes(text.toLowerCase()),
  };

  /* Numbers of the pictures that pass every filter, sorted; ties stay in the order of the inputs. */
  function listed(state) {
    const measure = measures[state.sort];
    const sign = state.order === "up" ? 1 : -1;
    const isSet = ([key]) => state[key] !== null && state[key] !== "";
    const tests = Object.entries(filters).filter(isSet).map(([key, filter]) => filter(state[key]));
    return index.pictures
      .map((row, number) => ({ number, row, key: measure(row, number) }))
      .filter(({ row, number }) => tests.every((test) => test(row, number)))
      .sort((a, b) => sign * (a.key - b.key) || a.number - b.number)
      .map(({ number }) => number);
  }

  return { listed, isWrong, leadOf, keys: [...Object.keys(filters), "sort", "order"] };
})();
