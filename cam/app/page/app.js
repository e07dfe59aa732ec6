// A click on a sample or on one of the first classes, or on a place of the picture.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-number]");
  if (button) trigger("select", { number: Number(button.dataset.number) });
  if (event.target.matches(".cam-heat")) {
    const box = event.target.getBoundingClientRect();
    trigger("click", { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
  }
});
