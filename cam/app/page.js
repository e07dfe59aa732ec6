// The page sends what its controls say to `show` of page.py, and shows the answer: Gradio's own components are slower.
// `element`, `server`, `upload` and `trigger` are Gradio's.
const find = (selector) => element.querySelector(selector), form = find("form"), fields = form.elements;
const lists = [fields.target, fields.rival], status = find("#cam-status"), hint = status.textContent;
const sides = [find(".cam-side"), find("#cam-sides").appendChild(find(".cam-side").cloneNode(true))];
let path = "", classes, lastClasses, shown = "", isBusy = false, model = fields.model.value;

const make = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const announce = (text, kind) => Object.assign(status, { textContent: text, className: `cam-${kind}` });

// The lists may hold half of a name; the classes are those that were chosen.
function setClasses(target, rival) {
  classes = { target, rival };
  for (const list of lists) {
    const isInUse = list === document.activeElement;
    Object.assign(list, isInUse ? { placeholder: classes[list.name] } : { value: classes[list.name] });
  }
}
function setPlace(x, y) {
  [fields.x.value, fields.y.value] = [x, y];
}
function startAnew() {
  setClasses("", "runner-up");
  lastClasses = { ...classes };
  setPlace("", "");
  for (const side of sides) {
    side.hidden = true;
    side.querySelector(".cam-strip").replaceChildren();
  }
  announce(path ? "Running the network" : hint, "hint");
}

function choice() {
  const { model, second, evidence, opacity } = Object.fromEntries(new FormData(form));
  const [x, y] = [fields.x, fields.y].map((field) => Math.floor(field.valueAsNumber)); // NaN, so null, if empty
  return { ...classes, evidence, opacity, x, y, path, models: [model, second].filter(Boolean) };
}

function showSide(side, view) {
  const get = (selector) => side.querySelector(selector), [height, width] = view.photo, [y, x] = view.place;
  const list = (selector, texts) => get(selector).replaceChildren(...texts.map((text) => make("li", {}, text)));
  get("h2").textContent = view.model;
  get("h3").textContent = view.title;
  get(".cam-strip").style.setProperty("--ratio", width / height);
  Object.assign(get(".cam-heat").dataset, { width, height, photoShare: view.photo_share });
  get(".cam-heat").style.setProperty("--ratio", view.ratio);
  Object.assign(get(".cam-heat img"), { alt: `Evidence for ${view.title}`, src: view.overlay });
  const [left, top] = [(x + 0.5) / width, (view.photo_share * (y + 0.5)) / height].map((part) => `${100 * part}%`);
  Object.assign(get(".cam-heat i").style, { left, top });
  const heading = view.evidence.length ? "Evidence in logits" : "The network saw nothing";
  get("caption").textContent = `${heading} at x ${x}, y ${y}`;
  const row = ([name, value, isDrawn]) =>
    make("tr", { className: isDrawn ? "chosen" : "" }, make("th", { scope: "row" }, name), make("td", {}, value));
  get("tbody").replaceChildren(...view.evidence.map(row));
  list(".cam-notes", view.notes);
  list(".cam-assumed", view.assumed);
  for (const link of side.querySelectorAll(".cam-files a")) link.removeAttribute("href"); // until they are drawn
}

function showTopClasses(side, topClasses) {
  const strip = side.querySelector(".cam-strip"), names = (all) => JSON.stringify(all.map(({ name }) => name));
  if (names(topClasses) !== names([...strip.children])) {
    const button = ({ name, target, label, score }) => {
      const text = make("span", {}, label, make("br"), score);
      const made = make("button", { type: "button", name, disabled: target === null }, make("img", { alt: "" }), text);
      made.dataset.target = target;
      return made;
    };
    strip.replaceChildren(...topClasses.map(button));
  }
  topClasses.forEach(({ chosen, overlay }, number) => {
    strip.children[number].ariaPressed = chosen;
    if (overlay) strip.children[number].firstChild.src = overlay;
  });
}

function showFiles(side, { stem, numbers }) {
  const overlay = side.querySelector(".cam-heat img").src;
  Object.assign(side.querySelector(".cam-save-picture"), { href: overlay, download: `${stem}.jpg` });
  Object.assign(side.querySelector(".cam-save-numbers"), { href: numbers, download: `${stem}.json` });
}

async function show() {
  const chosen = choice(), text = JSON.stringify(chosen);
  if (!path || isBusy || text === shown) return;
  [shown, isBusy] = [text, true];
  const failed = "cam app gave no answer. If it still runs, its terminal says why.";
  const answer = (await server.show(chosen)) ?? { error: failed };
  isBusy = false;
  if (answer.names?.length) {
    const options = () => answer.names.map((name) => new Option(name, name));
    find("#cam-classes").replaceChildren(...options());
    find("#cam-rivals").replaceChildren(new Option("runner-up", "runner-up"), ...options());
  }
  if (JSON.stringify(choice()) !== text) return show();
  if (answer.error) {
    shown = ""; // so that it can be tried again
    classes = { ...lastClasses };
    return announce(answer.error, "alert");
  }
  sides.forEach((side, number) => {
    side.hidden = number >= answer.sides.length;
    if (side.hidden) return;
    showSide(side, answer.sides[number]);
    showTopClasses(side, answer.sides[number].top_classes);
  });
  announce(answer.sides.map(describe).join("; "), "said");
  setClasses(answer.target, answer.rival);
  lastClasses = { ...classes };
  const [y, x] = answer.sides[0].place;
  setPlace(x, y);
  const now = (shown = JSON.stringify(choice())), drawn = (await server.draw(choice())) ?? [];
  if (shown !== now) return;
  drawn.forEach((view, number) => {
    showTopClasses(sides[number], view.top_classes);
    showFiles(sides[number], view);
  });
}
const describe = ({ model, title, place: [y, x], evidence: [[name, value] = ["nothing", ""]] }) =>
  `${model}, ${title}; at x ${x}, y ${y}: ${name} ${value}`;

// A picture from anywhere becomes that of Gradio's component, which tells of each change.
window.camPictureChanged = (file) => {
  path = file?.path ?? "";
  startAnew();
  show();
};
async function sendPicture(file) {
  try {
    window.camPicture = { ...(await upload(file)), orig_name: file.name, meta: { _type: "gradio.FileData" } };
    trigger("picture");
  } catch (error) {
    announce(error.message ?? String(error), "alert");
  }
}
const sendFirst = (event, { files }) => {
  if (!files.length || event.target.closest?.("#cam-picture")) return;
  event.preventDefault();
  sendPicture(files[0]);
};
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => sendFirst(event, event.dataTransfer));
addEventListener("paste", (event) => sendFirst(event, event.clipboardData));

element.addEventListener("click", async ({ target, clientX, clientY }) => {
  const sample = target.closest("[data-sample]"), topClass = target.closest("[data-target]");
  const heat = target.closest(".cam-heat");
  if (sample) {
    const content = await fetch(sample.firstElementChild.src);
    sendPicture(new File([await content.blob()], sample.dataset.sample));
  } else if (topClass) {
    setClasses(topClass.dataset.target, classes.rival);
  } else if (heat) {
    const { width, height, photoShare } = heat.dataset, box = heat.getBoundingClientRect();
    const y = ((clientY - box.top) / box.height / photoShare) * height, x = ((clientX - box.left) / box.width) * width;
    if (y < height) setPlace(Math.floor(x), Math.floor(y)); // below is the legend
  }
  show();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", ({ target }) => choose(target));
form.addEventListener("input", ({ target }) => {
  const isWhole = target.list ? [...target.list.options].some(({ value }) => value === target.value) : target.value;
  if (isWhole) choose(target);
});
function choose(field) {
  if (lists.includes(field) && field.value) classes[field.name] = field.value;
  if (field === fields.rival && classes.rival !== "runner-up") fields.evidence.value = "contrast";
  if (field === fields.model && field.value !== model) {
    if (fields.second.value === field.value) fields.second.value = model;
    startAnew();
  }
  model = fields.model.value;
  if (fields.second.value === model) fields.second.value = "";
  show();
}
for (const list of lists) { // what is typed replaces the text, and filters all classes
  const empty = () => list.value && Object.assign(list, { placeholder: list.value, value: "" });
  list.addEventListener("focus", empty);
  list.addEventListener("click", empty);
  list.addEventListener("blur", () => (list.value = classes[list.name]));
}
startAnew();
fields.second.value = fields.model.options[1]?.value ?? "";
fields.evidence.value = "logit";
