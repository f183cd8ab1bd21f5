"use strict";
// Draws the charts (see charts.py) with the bundled Vega-Embed; legends, sorting of tables and the colour theme.
const { config, locale, specs } = JSON.parse(document.getElementById("figures").textContent);

async function draw(plot) {
  const label = plot.ariaLabel;
  // ast: expressions are interpreted, as the content security policy allows no eval.
  const { view } = await vegaEmbed(plot, specs[plot.dataset.figure], {
    config, formatLocale: locale, ast: true, renderer: "svg", actions: false, defaultStyle: false,
    tooltip: { disableDefaultStyle: true, id: "tip" },
    patch: (vega) => ({ ...vega, legends: [] }), // the page has its own, of buttons
  });
  plot.view = view;
  plot.role = "img"; // Vega gives it the role of a document, and its own label
  plot.ariaLabel = label;
  plot.dataset.drawn = "true";
}

// Charts are drawn when they come near the window: a page may have a hundred.
const plots = [...document.querySelectorAll(".plot")];
const watcher = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    watcher.unobserve(target);
    draw(target);
  }
}, { rootMargin: "100% 0px" });
for (const plot of plots) watcher.observe(plot);
addEventListener("beforeprint", () => plots.filter((plot) => !plot.view).forEach(draw));

for (const legend of document.querySelectorAll(".legend"))
  legend.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    const view = legend.nextElementSibling.view;
    if (!button || !view) return;
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    const hidden = [...legend.querySelectorAll("[aria-pressed=false]")].map((one) => one.value);
    view.signal("hidden", hidden).runAsync();
  });

for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0], index = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[index].textContent.replace(/ (%|s)$/, "");
    const compare = (a, b) => (a === "" || b === "" ? (a === "") - (b === "") : isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)));
    body.append(...(down ? rows.reverse() : rows));
  });

const theme = document.querySelector(".theme");
const remember = { get: () => { try { return localStorage.getItem("kws-theme"); } catch { return null; } },
  set: (value) => { try { localStorage.setItem("kws-theme", value); } catch { /* a page opened from a file may have no storage */ } } };
function setTheme(value) { // the charts follow: their colours are CSS variables
  document.documentElement.dataset.theme = value;
  theme.textContent = `Theme: ${value}`;
}
theme.addEventListener("click", () => {
  const next = { auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme];
  setTheme(next);
  remember.set(next);
});
setTheme(["light", "dark"].find((value) => value === remember.get()) || "auto");
