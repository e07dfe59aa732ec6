/* Many buttons as one tab stop: arrow keys go through them, up and down by lines. */

gapcam.roving = (box) => {
  const buttons = () => [...box.querySelectorAll("button")];

  function middle(button) {
    const { left, top, width, height } = button.getBoundingClientRect();
    return [left + width / 2, top + height / 2];
  }

  /* The nearest button in the next line, down or up. */
  function inNextLine(from, down) {
    const [x, y] = middle(from);
    let [best, nearest] = [from, [Infinity, Infinity]];
    for (const button of buttons()) {
      const [otherX, otherY] = middle(button);
      const [far, aside] = [down ? otherY - y : y - otherY, Math.abs(otherX - x)];
      if (far < 2 || far > nearest[0] + 2 || (far > nearest[0] - 2 && aside >= nearest[1])) continue;
      [best, nearest] = [button, [far, aside]];
    }
    return best;
  }

  const moves = {
    ArrowLeft: (from, all) => all[all.indexOf(from) - 1],
    ArrowRight: (from, all) => all[all.indexOf(from) + 1],
    ArrowUp: (from) => inNextLine(from, false),
    ArrowDown: (from) => inNextLine(from, true),
    Home: (_, all) => all[0],
    End: (_, all) => all.at(-1),
  };

  /* Make one button the tab stop. */
  function setStop(stop) {
    for (const button of buttons()) button.tabIndex = button === stop ? 0 : -1;
  }

  box.addEventListener("focusin", ({ target }) => setStop(target));
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !moves[event.key]) return;
    event.preventDefault();
    moves[event.key](event.target, buttons())?.focus();
  });

  /* Call after making the buttons. */
  return { refresh: () => setStop(buttons()[0]) };
};
