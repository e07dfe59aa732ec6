/* The selected class, and the class that it is compared with. */

gapcam.classes = (() => {
  const { index } = gapcam.data;
  const { probability } = gapcam.evidence;
  const { byId, element, named, score, plain, label, searchable, findClass, markInvalid, noClass } = gapcam.format;
  const state = gapcam.state;

  const chips = byId("chips");

  /* The classes of the state, with defaults: the predicted class, against the true class of an error or the
     strongest other class. */
  function selection({ picture, class: selected, against, evidence }) {
    const row = index.pictures[picture];
    const target = selected ?? row.top[0][0];
    const others = [against, row.truth, ...row.top.map(([c]) => c)];
    return { class: target, against: others.find((c) => c !== null && c !== target), evidence };
  }

  function chip(c, logit, share, key) {
    const numbers = [plain(logit, 2), ...(share === null ? [] : [score(share, logit)])];
    const button = element(
      "button",
      "chip",
      element("kbd", "", key),
      named(label(c), "name"),
      ...numbers.map((number) => element("span", "number", number)),
    );
    button.type = "button";
    button.dataset.class = c;
    button.addEventListener("click", () => state.set({ class: c }));
    return button;
  }

  /* The top five classes, and if the evidence is loaded also the true class and the selected class. */
  function showChips(row, picture, target) {
    const top = row.top.map(([c, logit, share], n) => chip(c, logit, share, String(n + 1)));
    const inTop = new Set(row.top.map(([c]) => c));
    const others = [...new Set([row.truth, target])].filter((c) => c !== null && !inTop.has(c));
    const more = (c) => chip(c, picture.logits[c], probability(row, picture, c), "");
    chips.replaceChildren(...top, ...(picture ? others.map(more) : []));
    for (const button of chips.children) {
      const c = Number(button.dataset.class);
      button.setAttribute("aria-pressed", c === target);
      if (c === row.truth) button.append(element("span", "is-true", "true"));
    }
  }

  /* The classes that the prediction is compared with: the true class of an error and the runner-up, or else the class
     that was chosen. */
  function rivals({ top: [[predicted], runnerUp], truth }, { class: target, against, evidence }) {
    const others = [truth, runnerUp?.[0]].filter((c, n, all) => c != null && c !== predicted && all.indexOf(c) === n);
    const chosen = target !== predicted ? target : evidence === "contrast" ? against : others[0];
    return chosen === undefined || others.includes(chosen) ? others : [chosen];
  }

  /* Whether the map tells why the prediction is not another class. */
  function isAnswered(row, rival) {
    const { class: target, against, evidence } = selection(state.current);
    return evidence === "contrast" && target === row.top[0][0] && against === rival;
  }

  function showWhy(row) {
    const others = rivals(row, selection(state.current));
    byId("why").hidden = !others.length;
    [...byId("why").children].forEach((button, n) => {
      const rival = others[n];
      button.hidden = rival === undefined;
      if (button.hidden) return;
      button.value = rival;
      button.className = rival === row.truth ? "wrong" : "";
      button.setAttribute("aria-pressed", isAnswered(row, rival));
      button.replaceChildren("Why ", named(label(row.top[0][0])), ", not ", named(label(rival)), "?");
    });
  }

  /* Show the selection for a picture; null if its evidence cannot be loaded. */
  function show(picture) {
    const row = index.pictures[state.current.picture];
    const { class: target, against, evidence } = selection(state.current);
    showChips(row, picture, target);
    showWhy(row);
    byId("class").value = searchable(target);
    byId("against").value = against === undefined ? "" : searchable(against);
    for (const id of ["class", "against"]) markInvalid(byId(id));
    byId("against-field").hidden = evidence !== "contrast";
    for (const button of byId("evidence").children) {
      button.setAttribute("aria-pressed", button.value === evidence);
      button.hidden = !state.kinds.includes(button.value);
    }
  }

  const phone = matchMedia("(max-width: 800px)");
  const placeChips = () => byId(phone.matches ? "why" : "classes-title").after(chips);
  phone.addEventListener("change", placeChips);
  placeChips();

  for (const id of ["class", "against"]) {
    byId(id).addEventListener("change", (event) => {
      const c = findClass(event.target.value);
      const isSame = id === "against" && c === selection(state.current).class;
      const message = isSame ? "Choose another class to compare with." : noClass(event.target.value);
      const isValid = c !== undefined && !isSame;
      markInvalid(event.target, isValid ? "" : message);
      if (isValid) state.set({ [id]: c });
    });
    byId(id).addEventListener("focus", (event) => event.target.select());
  }
  byId("evidence").addEventListener("click", (event) => {
    if (event.target.value) state.set({ evidence: event.target.value });
  });
  byId("swap").addEventListener("click", () => {
    const { class: target, against } = selection(state.current);
    state.set({ class: against, against: target });
  });
  byId("why").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const [row, rival] = [index.pictures[state.current.picture], Number(button.value)];
    const contrast = { evidence: "contrast", class: row.top[0][0], against: rival };
    state.set(isAnswered(row, rival) ? { evidence: "logit" } : contrast);
  });

  return { selection, rivals, show };
})();
