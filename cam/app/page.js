// The page sends what its controls say to `show` of page.py, and shows the answer: Gradio's own components are slower.
// `element`, `server`, `upload` and `trigger` are Gradio's.
const find = (selector) => element.querySelector(selector), form = find("form"), fields = form.elements;
const lists = form.querySelectorAll("[list]"), status = find("#cam-status"), hint = status.textContent;
const sides = [find(".cam-side"), find("main").appendChild(find(".cam-side").cloneNode(true))];
let path = "", shown = "", isBusy = false;

const make = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const say = (text, kind) => Object.assign(status, { textContent: text, className: `cam-${kind}` });
const fill = (values) =>
  Object.entries(values).forEach(([name, value]) => Object.assign(fields[name], { value, placeholder: "" }));
fill({ other: fields.model.options[1]?.value ?? "", evidence: "logit" });
const reset = () => fill({ target: "", rival: "runner-up", x: "", y: "" });

function choice() {
  const { model, other, ...values } = Object.fromEntries(new FormData(form));
  for (const list of lists) values[list.name] ||= list.placeholder;
  return { ...values, path, models: [...new Set([model, other])].filter(Boolean) };
}

function showSide(side, view) {
  const get = (selector) => side.querySelector(selector), [height, width] = view.photo, [y, x] = view.place;
  const list = (selector, texts) => get(selector).replaceChildren(...texts.map((text) => make("li", {}, text)));
  get("h2").textContent = view.model;
  get("h3").textContent = view.title;
  get(".cam-strip").style.setProperty("--ratio", width / height);
  Object.assign(get(".cam-heat").dataset, { width, height, share: view.share });
  get(".cam-heat").style.setProperty("--ratio", view.ratio);
  Object.assign(get(".cam-heat img"), { alt: `Evidence for ${view.title}`, src: view.overlay });
  const [left, top] = [(x + 0.5) / width, (view.share * (y + 0.5)) / height].map((part) => `${100 * part}%`);
  Object.assign(get(".cam-heat i").style, { left, top });
  const what = view.evidence.length ? "Evidence in logits" : "The network saw nothing";
  get("caption").textContent = `${what} at x ${x}, y ${y}`;
  const row = ([name, value, isDrawn]) =>
    make("tr", { className: isDrawn ? "chosen" : "" }, make("th", { scope: "row" }, name), make("td", {}, value));
  get("tbody").replaceChildren(...view.evidence.map(row));
  list(".cam-notes", view.notes);
  list(".cam-assumed", view.assumed);
}

function showFirsts(side, firsts) {
  const button = ({ target, label, score, chosen, overlay }) => {
    const image = make("img", { alt: "" }), text = make("span", {}, label, make("br"), score);
    if (overlay) image.src = overlay; // else its place
    const made = make("button", { type: "button", ariaPressed: chosen }, image, text);
    made.dataset.target = target;
    return made;
  };
  side.querySelector(".cam-strip").replaceChildren(...firsts.map(button));
}

function showFiles(side, { stem, numbers }) {
  const picture = side.querySelector(".cam-save-picture"), overlay = side.querySelector(".cam-heat img").src;
  Object.assign(picture, { href: overlay, download: `${stem}.jpg` });
  Object.assign(side.querySelector(".cam-save-numbers"), { href: numbers, download: `${stem}.json` });
}

async function show() {
  const chosen = choice(), text = JSON.stringify(chosen), isNow = (text) => JSON.stringify(choice()) === text;
  if (!path || isBusy || text === shown) return;
  [shown, isBusy] = [text, true];
  const answer = (await server.show(chosen)) ?? { error: "cam app does not answer. Is it still running?" };
  isBusy = false;
  if (!isNow(text)) return show();
  if (answer.error) return say(answer.error, "alert");
  sides.forEach((side, number) => {
    side.hidden = number >= answer.sides.length;
    if (side.hidden) return;
    showSide(side, answer.sides[number]);
    if (!chosen.target) showFirsts(side, answer.sides[number].firsts);
  });
  say(answer.sides.map(({ model, title }) => `${model}, ${title}`).join("; "), "said");
  if (answer.classes.length) {
    const options = () => answer.classes.map((label) => new Option(label, label));
    find("#cam-classes").replaceChildren(...options());
    find("#cam-rivals").replaceChildren(new Option("runner-up", "runner-up"), ...options());
  }
  fill(answer.values);
  shown = JSON.stringify(choice());
  const now = shown, drawn = (await server.draw(choice())) ?? [];
  if (!isNow(now)) return;
  drawn.forEach((view, number) => {
    showFirsts(sides[number], view.firsts);
    showFiles(sides[number], view);
  });
}

// A picture from anywhere becomes that of Gradio's component, which tells of each change.
window.camTake = (file) => {
  path = file?.path ?? "";
  reset();
  sides.forEach((side) => (side.hidden = true));
  say(path ? "" : hint, path ? "said" : "hint");
  show();
};
async function give(file) {
  try {
    window.camGiven = { ...(await upload(file)), orig_name: file.name, meta: { _type: "gradio.FileData" } };
    trigger("give");
  } catch (error) {
    say(error.message ?? String(error), "alert");
  }
}
const giveFirst = (event, { files }) => {
  if (!files.length || event.target.closest?.("#cam-picture")) return;
  event.preventDefault();
  give(files[0]);
};
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => giveFirst(event, event.dataTransfer));
addEventListener("paste", (event) => giveFirst(event, event.clipboardData));

element.addEventListener("click", async ({ target, clientX, clientY }) => {
  const sample = target.closest("[data-sample]"), first = target.closest("[data-target]");
  const heat = target.closest(".cam-heat");
  if (sample) {
    const content = await fetch(sample.firstElementChild.src);
    give(new File([await content.blob()], sample.dataset.sample));
  } else if (first) {
    fill({ target: first.dataset.target });
  } else if (heat) {
    const { width, height, share } = heat.dataset, box = heat.getBoundingClientRect();
    const y = ((clientY - box.top) / box.height / share) * height, x = ((clientX - box.left) / box.width) * width;
    if (y < height) fill({ x: Math.floor(x), y: Math.floor(y) }); // below is the legend
  }
  show();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", show);
form.addEventListener("input", ({ target }) => {
  if (target.list && ![...target.list.options].some(({ value }) => value === target.value)) return;
  if (target.name === "model") reset();
  if (target.name === "rival" && target.value !== "runner-up") fill({ evidence: "contrast" });
  show();
});
for (const list of lists) { // what is typed replaces the text, and filters all classes
  const empty = () => list.value && Object.assign(list, { placeholder: list.value, value: "" });
  list.addEventListener("focus", empty);
  list.addEventListener("click", empty);
  list.addEventListener("blur", () => (list.value ||= list.placeholder));
}
