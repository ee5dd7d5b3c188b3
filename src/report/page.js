"use strict";
// Hints: what lies under the pointer says what it is.
const hint = document.getElementById("hint");
for (const title of document.querySelectorAll(".hints title")) {
  title.parentNode.dataset.hint = title.textContent;
  title.parentNode.setAttribute("aria-label", title.textContent);
  title.remove();
}
document.addEventListener("pointermove", (event) => {
  const text = event.target.dataset && event.target.dataset.hint;
  hint.style.visibility = text ? "visible" : "hidden";
  if (!text) return;
  hint.textContent = text;
  const { width, height } = hint.getBoundingClientRect();
  hint.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
  hint.style.top = Math.max(4, event.clientY - height - 12) + "px";
});
// Tables: a click on a heading, or Enter, sorts by it; a second one turns the order.
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const sort = (head, column) => {
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)], numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return (numbers ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
    };
    const rows = [...body.rows].sort(order), shown = rows.filter((row) => !row.classList.contains("rest")).length;
    rows.forEach((row, at) => { row.classList.toggle("rest", at >= shown); body.append(row); });
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "Sort by this column";
    head.addEventListener("click", () => sort(head, column));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head, column); });
  });
}
for (const button of document.querySelectorAll("button[data-all]")) {
  button.addEventListener("click", () => {
    document.getElementById(button.dataset.all).classList.add("all");
    button.remove();
    fit();
  });
}
// A table that has no room shows its rows as cards: each value with the heading of its column.
const tables = [...document.querySelectorAll(".scroll > table")];
for (const table of tables) {
  const heads = [...table.tHead.rows[0].cells].map((head) => head.firstChild ? head.firstChild.textContent : "");
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, column) => { if (cell.tagName === "TD") cell.dataset.head = heads[column]; });
  }
}
const fit = () => {
  for (const table of tables) {
    table.classList.remove("stacked");
    const phone = innerWidth <= 560 && table.tHead.rows[0].cells.length > 3;
    const cut = innerWidth <= 860 && table.scrollWidth > table.parentNode.clientWidth;
    table.classList.toggle("stacked", phone || cut);
  }
};
fit();
addEventListener("resize", fit);
// Paper shows what is folded up.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
