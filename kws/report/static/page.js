"use strict";
// Draws the charts (see charts.py) with the bundled Vega-Embed; sorting of tables and the colour theme.
const { config, locale, specs } = JSON.parse(document.getElementById("figures").textContent);
const options = {
  config, formatLocale: locale, ast: true, // expressions are interpreted: the content security policy allows no eval
  renderer: "svg", actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true, id: "tip" },
};
for (const plot of document.querySelectorAll(".plot > div")) vegaEmbed(plot, specs[plot.id], options);

for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => {
    const head = button.closest("th"), [body] = head.closest("table").tBodies;
    const down = head.ariaSort === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.ariaSort = down ? "descending" : "ascending";
    const key = (row) => row.cells[head.cellIndex].textContent;
    const compare = (a, b) => parseFloat(a) - parseFloat(b) || a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)));
    body.append(...(down ? rows.reverse() : rows));
  });

const theme = document.querySelector(".theme"), themes = ["auto", "light", "dark"];
function setTheme(value) { // the charts follow: their colours are CSS variables
  document.documentElement.dataset.theme = value;
  theme.textContent = `Theme: ${value}`;
  try { localStorage.setItem("kws-theme", value); } catch { /* a page opened from a file may have no storage */ }
}
theme.addEventListener("click", () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
try { setTheme(themes.find((value) => value === localStorage.getItem("kws-theme")) ?? "auto"); } catch { /* as above */ }
