/* Start with the state in the address. */

document.addEventListener("DOMContentLoaded", () => {
  const { index } = gapcam.data;
  const { byId, visible } = gapcam.format;
  const { model, head, weights, version } = index.about;
  const method = index.method ? `, ${index.method.name}` : "";
  byId("title").textContent = visible(index.title);
  byId("made-with").textContent = `gapcam ${version}, ${head} head${method}, weights ${weights.slice(0, 12)}`;
  byId("made-with").title = `${model}, weights ${weights}`;
  gapcam.state.start();
});
