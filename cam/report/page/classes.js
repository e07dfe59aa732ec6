/* Which class is looked at, and against which. */

gapcam.classes = (() => {
  const { index } = gapcam.data;
  const { probability } = gapcam.evidence;
  const { byId, element, named, percent, plain, label, searchable, classNamed, complain, noClass } = gapcam.format;
  const { isWrong } = gapcam.filter;
  const state = gapcam.state;

  const chips = byId("chips");

  /* The classes looked at, with what was left open filled in: the predicted class, over the true one of an error or
     the strongest other. */
  function chosen({ picture, class: c, against, evidence }) {
    const row = index.pictures[picture];
    const own = c ?? row.top[0][0];
    const others = [against, row.truth, ...row.top.map(([each]) => each)];
    const other = others.find((each) => each !== null && each !== own);
    return { class: own, against: other, evidence };
  }

  function chip(c, logit, share, key) {
    const button = element(
      "button",
      "chip",
      element("kbd", "", key),
      named(label(c), "name"),
      element("span", "number", plain(logit, 2)),
      element("span", "number", percent(share)),
    );
    button.type = "button";
    button.dataset.class = c;
    button.addEventListener("click", () => state.set({ class: c }));
    return button;
  }

  /* The predicted five, and besides them the true class and the one that was searched. */
  function showChips(row, picture, own) {
    const told = row.top.map(([c, logit, share], n) => chip(c, logit, share, String(n + 1)));
    const known = new Set(row.top.map(([c]) => c));
    const extra = [...new Set([row.truth, own])].filter((c) => c !== null && !known.has(c));
    const more = extra.map((c) => chip(c, picture.logits[c], probability(row, picture, c), ""));
    chips.replaceChildren(...told, ...more);
    for (const button of chips.children) {
      const c = Number(button.dataset.class);
      button.setAttribute("aria-pressed", c === own);
      if (c === row.truth) button.append(element("span", "is-true", "true"));
    }
  }

  function showQuestion(row) {
    const button = byId("why");
    button.hidden = !isWrong(row);
    if (button.hidden) return;
    button.replaceChildren("Why ", named(label(row.top[0][0])), ", not ", named(label(row.truth)), "?");
  }

  /* Show the choice for a picture whose evidence is there. */
  function show(picture) {
    const row = index.pictures[state.current.picture];
    const { class: own, against, evidence } = chosen(state.current);
    showChips(row, picture, own);
    showQuestion(row);
    byId("class").value = searchable(own);
    byId("against").value = searchable(against);
    for (const id of ["class", "against"]) complain(byId(id));
    byId("against-field").hidden = evidence !== "contrast";
    for (const button of byId("evidence").children) {
      button.setAttribute("aria-pressed", button.value === evidence);
    }
  }

  for (const id of ["class", "against"]) {
    byId(id).addEventListener("change", (event) => {
      const c = classNamed(event.target.value);
      const itself = id === "against" && c === chosen(state.current).class;
      const wrong = itself ? "It would be held against itself." : noClass(event.target.value);
      const isRight = c !== undefined && !itself;
      complain(event.target, isRight ? "" : wrong);
      if (isRight) state.set({ [id]: c });
    });
    byId(id).addEventListener("focus", (event) => event.target.select());
  }
  byId("evidence").addEventListener("click", (event) => {
    if (event.target.value) state.set({ evidence: event.target.value });
  });
  byId("swap").addEventListener("click", () => {
    const { class: own, against } = chosen(state.current);
    state.set({ class: against, against: own });
  });
  byId("why").addEventListener("click", () => {
    const row = index.pictures[state.current.picture];
    state.set({ evidence: "contrast", class: row.top[0][0], against: row.truth });
  });

  return { chosen, show };
})();
