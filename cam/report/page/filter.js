/* Filters and order of the list. */

gapcam.filter = (() => {
  const { index } = gapcam.data;

  const isWrong = ({ truth, top }) => truth !== null && truth !== top[0][0];
  const marginOf = ({ top }) => (top.length > 1 ? top[0][1] - top[1][1] : Infinity);

  const measures = {
    input: (_, number) => number,
    confidence: ({ top }) => top[0][2] ?? top[0][1],
    margin: marginOf,
    completeness: ({ completeness }) => completeness,
    border: ({ border }) => border,
  };

  function textsOf({ path, top, truth }) {
    return [path, index.labels[top[0][0]], truth === null ? "" : index.labels[truth]].join("\n").toLowerCase();
  }

  const tests = {
    show: (row, show) => show === "all" || (row.truth !== null && isWrong(row) === (show === "wrong")),
    margin: (row, margin) => margin === null || marginOf(row) < margin,
    of: (row, c) => c === null || row.top[0][0] === c || row.truth === c,
    confusion: (row, pair) => pair === null || (isWrong(row) && pair === `${row.truth}>${row.top[0][0]}`),
    text: (row, text) => text === "" || textsOf(row).includes(text.toLowerCase()),
  };

  /* Numbers of the pictures that pass every filter, sorted; ties stay in the order of the inputs. */
  function listed(state) {
    const measure = measures[state.sort];
    const sign = state.order === "up" ? 1 : -1;
    return index.pictures
      .map((row, number) => ({ number, row, key: measure(row, number) }))
      .filter(({ row }) => Object.entries(tests).every(([key, test]) => test(row, state[key])))
      .sort((a, b) => sign * (a.key - b.key) || a.number - b.number)
      .map(({ number }) => number);
  }

  return { listed, isWrong, marginOf, keys: [...Object.keys(tests), "sort", "order"] };
})();
