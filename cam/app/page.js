() => {
  // What is typed into a list replaces its text, and a list closes when the focus leaves it.
  addEventListener("click", ({ target }) => target.role === "combobox" && target.select());
  addEventListener("focusout", ({ target }) => setTimeout(() => {
    const escape = new KeyboardEvent("keydown", { key: "Escape", bubbles: true });
    if (target.ariaExpanded === "true" && target !== document.activeElement) target.dispatchEvent(escape);
  }, 100));
  // A picture may be dropped and pasted anywhere.
  const take = (event, { files }) => {
    const input = document.querySelector("#cam-picture input[type=file]");
    if (!input || !files.length || event.target.closest?.("#cam-picture")) return;
    event.preventDefault();
    input.files = files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => take(event, event.dataTransfer));
  addEventListener("paste", (event) => take(event, event.clipboardData));
}
