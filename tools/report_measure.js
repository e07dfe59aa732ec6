/* Milliseconds of each user action with its layout; report_figures.py runs this in the page. */
async () => {
  const { state, data, list } = gapcam;
  const root = document.documentElement;
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  async function timed(action) {
    const start = performance.now();
    await action();
    root.getBoundingClientRect();
    return performance.now() - start;
  }

  /* Resolved as soon as a picture is shown. */
  function shown(number) {
    return new Promise((resolve) => {
      const isShown = () => root.dataset.shown === String(number);
      if (isShown()) return resolve();
      const observer = new MutationObserver(() => {
        if (!isShown()) return;
        observer.disconnect();
        resolve();
      });
      observer.observe(root, { attributes: true });
    });
  }

  const times = { hover: [], class: [], next: [], jump: [], filter: [], scroll: [], grid: [] };
  const stage = document.getElementById("stage");
  const { left, top, width, height } = stage.getBoundingClientRect();
  for (let i = 0; i < 200; i++) {
    const clientX = left + width * (0.2 + 0.6 * (((i * 37) % 200) / 200));
    const clientY = top + height * (0.1 + 0.8 * (i / 200));
    const move = new PointerEvent("pointermove", { clientX, clientY });
    await pause(16); // a frame, as in use
    times.hover.push(await timed(() => stage.dispatchEvent(move)));
  }

  const kinds = ["logit", "contrast", "margin", "posterior"];
  for (let i = 0; i < 40; i++) {
    const [c] = data.index.pictures[state.current.picture].top[(i + 1) % 5];
    await pause(16);
    times.class.push(await timed(() => state.set({ class: c, evidence: kinds[i % 4] })));
  }

  for (let i = 0; i < 20; i++) {
    await pause(300);
    times.next.push(
      await timed(() => {
        list.step(1);
        return shown(state.current.picture);
      }),
    );
  }

  for (let i = 0; i < 20; i++) {
    await pause(300);
    const number = (state.current.picture + 31) % data.index.pictures.length;
    times.jump.push(
      await timed(() => {
        state.open(number);
        return shown(number);
      }),
    );
  }

  const changes = [{ text: "2" }, { text: "" }, { sort: "margin" }, { order: "down" }, { margin: 3 }];
  for (const change of [...changes, { margin: null, sort: "input", order: "up" }]) {
    times.filter.push(await timed(() => state.set(change)));
  }

  async function scroll(box, into) {
    for (let i = 1; i <= 60; i++) {
      await pause(16);
      into.push(
        await timed(() => {
          box.scrollTop = (i / 60) * (box.scrollHeight - box.clientHeight);
          box.dispatchEvent(new Event("scroll"));
        }),
      );
    }
  }
  await scroll(document.getElementById("list"), times.scroll);
  state.set({ view: "grid" });
  await scroll(document.getElementById("tiles"), times.grid);
  return times;
}
