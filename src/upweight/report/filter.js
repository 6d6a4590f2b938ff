/* Rows of a table that a reader asks for: words, each in some cell, and column > number, column : word. */
document.addEventListener("DOMContentLoaded", () => {
  const compare = {
    ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b, "=": (a, b) => a === b,
  };
  const exact = cell => cell.dataset.sort ?? cell.textContent.trim();
  for (const box of document.querySelectorAll(".filter")) {
    const input = box.querySelector("input"), said = box.querySelector("output");
    const table = document.getElementById(input.getAttribute("aria-controls"));
    const heads = [...table.tHead.rows[0].cells].map(head => head.textContent.trim().toLowerCase());
    const column = name => {
      const tests = [head => head === name, head => head.startsWith(name), head => head.includes(name)];
      return tests.map(test => heads.findIndex(test)).find(place => place >= 0) ?? -1;
    };
    const term = text => {
      const [, name, sign, value] = /^(.+?)(<=|>=|[<>=:])(.+)$/.exec(text) ?? [];
      const place = name === undefined ? -1 : column(name.trim()), wanted = value?.trim();
      if (place < 0)
        return row => [...row.cells].some(cell => `${cell.textContent} ${exact(cell)}`.toLowerCase().includes(text));
      const number = Number(wanted);
      if (sign === ":" || Number.isNaN(number))
        return row => sign === "=" || sign === ":"
          ? sign === "=" ? exact(row.cells[place]).toLowerCase() === wanted
            : row.cells[place].textContent.toLowerCase().includes(wanted)
          : false;
      return row => exact(row.cells[place]) !== "" && compare[sign](Number(exact(row.cells[place])), number);
    };
    const show = () => {
      const parts = input.value.toLowerCase().match(/[^\s"]*"[^"]*"[^\s"]*|\S+/g) ?? [];
      const tests = parts.map(part => term(part.replaceAll('"', "")));
      let shown = 0, every = 0;
      for (const body of table.tBodies)
        for (const row of body.rows) {
          row.hidden = !tests.every(test => test(row));
          shown += !row.hidden;
          every += 1;
        }
      said.value = tests.length ? `${shown} of ${every} rows` : "";
    };
    input.addEventListener("input", show);
    box.hidden = false;
    show();
  }
});
