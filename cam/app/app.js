// A click on a sample or on one of the first classes, or on a place of the picture, which the legend is no part of.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-number]"), heat = event.target.closest(".cam-heat");
  if (button) trigger("select", { number: Number(button.dataset.number) });
  if (heat) {
    const box = heat.getBoundingClientRect(), y = (event.clientY - box.top) / box.height / heat.dataset.share;
    if (y < 1) trigger("click", { x: (event.clientX - box.left) / box.width, y });
  }
});
