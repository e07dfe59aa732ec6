/* Start with the state in the address. */

document.addEventListener("DOMContentLoaded", () => {
  const { index } = gapcam.data;
  const { byId, visible } = gapcam.format;
  const { model, head, weights, version } = index.about;
  byId("title").textContent = visible(index.title);
  byId("made-with").textContent = `gapcam ${version}, ${head} head, weights ${weights.slice(0, 12)}`;
  byId("made-with").title = `${model}, weights ${weights}`;
  gapcam.state.start();
});
