"use strict";
// Sorting, filtering and export of the tables. A cell's exact text is its title, or what it shows; the texts of the
// columns that are not shown at first stand in the row's data: cells for all would slow down a table of thousands of rows.

const exactText = cell => cell.title || cell.textContent.trim();
const toNumber = text => text === "" || text.toLowerCase() === "nan" ? NaN : Number(text.replace("inf", "Infinity"));
const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function download(name, text) {
  const link = element("a", {href: URL.createObjectURL(new Blob([text], {type: "text/csv"})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

class Sheet {
  constructor(table) {
    this.table = table;
    this.body = table.tBodies[0];
    this.heads = [...table.tHead.rows[0].cells];
    this.rows = [...this.body.rows].map(row => {
      const exact = [...[...row.cells].map(exactText), ...JSON.parse(row.dataset.more ?? "[]")];
      const shown = [...row.cells].map(cell => cell.textContent);
      return {row, exact, words: [...shown, ...exact].join(" ").toLowerCase()};
    });
    this.selects = new Map();
    this.heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => this.sort(column)));
    table.closest(".box").before(this.tools());
    this.filter();
  }

  tools() {
    this.search = element("input", {type: "search", placeholder: "filter", oninput: () => this.filter()});
    this.search.setAttribute("aria-label", "Filter rows");
    const tools = element("div", {className: "tools"}, this.search);
    this.heads.forEach((head, column) => {
      if ("choices" in head.dataset) tools.append(this.choice(head, column));
    });
    this.count = element("output", {});
    tools.append(this.count);
    if (this.heads.some(head => head.classList.contains("x"))) {
      const more = element("button", {type: "button", textContent: "all columns"});
      more.setAttribute("aria-pressed", "false");
      more.onclick = () => more.setAttribute("aria-pressed", String(this.toggleColumns()));
      tools.append(more);
    }
    tools.append(element("button", {type: "button", textContent: "CSV", title: "Save the rows shown, with all columns",
      onclick: () => download(`${this.table.dataset.name}.csv`, this.csv())}));
    return tools;
  }

  /// Shows or hides the further columns, whose cells are made when first wanted; returns whether they are shown.
  toggleColumns() {
    for (const {row, exact} of this.rows) {
      for (let column = row.cells.length; column < exact.length; ++column) {
        row.append(element("td", {className: this.heads[column].className, textContent: exact[column]}));
      }
    }
    return !this.table.classList.toggle("short");
  }

  choice(head, column) {
    const label = head.firstElementChild.textContent;
    const values = [...new Set(this.rows.map(({exact}) => exact[column]))].filter(value => value !== "").sort();
    const options = [["", `${label}: all`], ...values.map(value => [value, value])];
    const select = element("select", {onchange: () => this.filter()},
      ...options.map(([value, textContent]) => element("option", {value, textContent})));
    select.setAttribute("aria-label", `Rows with ${label}`);
    this.selects.set(head.dataset.column, {select, column});
    return select;
  }

  /// Ascending at first, then descending; empty fields always last.
  sort(column) {
    const head = this.heads[column], up = head.getAttribute("aria-sort") !== "ascending";
    this.heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = head.classList.contains("n");
    const empty = text => numeric ? Number.isNaN(toNumber(text)) : text === "";
    this.rows.sort(({exact: {[column]: a}}, {exact: {[column]: b}}) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const [x, y] = numeric ? [toNumber(a), toNumber(b)] : [0, 0];
      const order = numeric ? (x > y) - (x < y) : a.localeCompare(b, "en", {numeric: true});
      return up ? order : -order;
    });
    this.body.append(...this.rows.map(({row}) => row));
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...this.selects.values()].filter(({select}) => select.value !== "");
    for (const {select} of this.selects.values()) select.classList.toggle("set", select.value !== "");
    for (const {row, exact, words: text} of this.rows) {
      const matches = words.every(word => text.includes(word));
      row.hidden = !(matches && chosen.every(({select, column}) => exact[column] === select.value));
    }
    this.count.textContent = `${this.shown().length} of ${this.rows.length} rows`;
  }

  shown() { return this.rows.filter(({row}) => !row.hidden); }

  /// Restricts the columns named in URLSearchParams, and no other.
  show(where) {
    this.search.value = "";
    for (const [name, {select}] of this.selects) select.value = where.get(name) ?? "";
    this.filter();
  }

  csv() {
    const lines = [this.heads.map(head => head.dataset.column), ...this.shown().map(({exact}) => exact)];
    return lines.map(fields => fields.map(quoted).join(",") + "\n").join("");
  }
}

const sheets = new Map();
for (const table of document.querySelectorAll("table.sheet")) sheets.set(table, new Sheet(table));

for (const link of document.querySelectorAll("a[data-where]")) {
  link.addEventListener("click", () => {
    const table = document.querySelector(`${link.getAttribute("href")} table.sheet`);
    if (table) sheets.get(table).show(new URLSearchParams(link.dataset.where));
  });
}
