"use strict";
// Sorting, searching and filtering. Everything is in the page already: without this script all of it is shown, unsorted.
(() => {
  document.documentElement.classList.add("js");

  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  // Cells without a number come last in both directions.
  function compare(a, b, numeric, sign) {
    if (!numeric) return sign * collator.compare(a.textContent, b.textContent);
    const x = a.dataset.value, y = b.dataset.value;
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (x - y);
  }

  function sortBy(header) {
    const table = header.closest("table"), body = table.tBodies[0];
    const place = header.cellIndex, numeric = header.classList.contains("number");
    // Numbers from the largest at first, texts from A.
    const before = header.getAttribute("aria-sort");
    const rising = before === null ? !numeric : before === "descending";
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...body.rows];
    rows.sort((a, b) => compare(a.cells[place], b.cells[place], numeric, rising ? 1 : -1));
    body.append(...rows);
  }

  for (const button of document.querySelectorAll("table.sortable thead button"))
    button.addEventListener("click", () => sortBy(button.closest("th")));

  // One list of items (rows of a table, answers): which of them are shown.
  function show(list, matches) {
    const step = Number(list.dataset.step) || Infinity;
    const limit = list.shownItems || step;
    let found = 0, all = 0;
    for (const item of list.querySelectorAll("[data-item]")) {
      all += 1;
      const fits = matches(item);
      found += fits;
      item.toggleAttribute("hidden", !fits || found > limit);
    }
    const more = list.parentElement.querySelector(":scope > .more");
    if (more) {
      more.hidden = found <= limit;
      more.textContent = `show ${Math.min(step, found - limit)} more of ${found - limit}`;
    }
    return [found, all];
  }

  function textOf(item) {
    if (item.searchText === undefined) item.searchText = item.textContent.toLowerCase();
    return item.searchText;
  }

  function control(form) {
    const lists = form.dataset.controls.split(" ").map((id) => document.getElementById(id));
    const search = form.querySelector("input[type=search]");
    function update() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = [...form.querySelectorAll("select")].filter((s) => s.value !== "");
      const ticked = [...form.querySelectorAll("input[type=checkbox]")].filter((b) => b.checked);
      // A table without the column has no such key, and keeps its rows.
      const matches = (item) =>
        words.every((word) => textOf(item).includes(word)) &&
        chosen.every((s) => item.dataset[s.name] === undefined || item.dataset[s.name] === s.value) &&
        ticked.every((b) => item.dataset[b.name] === "yes");
      let found = 0, all = 0;
      for (const list of lists) {
        const [some, every] = show(list, matches);
        if (list.hasAttribute("data-uncounted")) continue;
        found += some;
        all += every;
      }
      form.querySelector("output").textContent = found === all ? `${all}` : `${found} of ${all}`;
    }
    form.addEventListener("input", () => {
      for (const list of lists) list.shownItems = undefined;
      update();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const list of lists) {
      const more = list.parentElement.querySelector(":scope > .more");
      if (more)
        more.addEventListener("click", () => {
          list.shownItems = (list.shownItems || Number(list.dataset.step)) + Number(list.dataset.step);
          update();
        });
    }
    update();
  }

  for (const form of document.querySelectorAll("form[data-controls]")) control(form);
})();
