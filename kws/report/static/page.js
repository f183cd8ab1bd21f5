"use strict";
// Draws the figures from the JSON in #figures (see charts.py); legends, tooltips, arrow keys, sorting and the theme.
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 3", "6 2 1 2"];
const tip = document.getElementById("tip");

const color = (index) => `var(--c${index % 8})`;
const extent = (values) => [Math.min(...values), Math.max(...values)];

function element(tag, attributes, parent, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function show(value, format) {
  if (value === null || value === undefined) return "n/a";
  if (format === "percent") return `${(100 * value).toFixed(2)} %`;
  if (format === "points") return (100 * value).toFixed(2);
  if (format === "seconds") return `${value.toPrecision(3)} s`;
  if (format === "count") return value >= 1e7 ? `${(value / 1e6).toFixed(1)} M` : Math.round(value).toLocaleString("en");
  if (format === "whole") return String(value);
  return String(+value.toPrecision(3));
}

function tickText(value, format) {
  if (format === "percent") return `${+(100 * value).toFixed(2)} %`;
  if (format === "points") return String(+(100 * value).toFixed(3));
  if (format === "count" && value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (format === "count" && value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return String(+value.toPrecision(6));
}

function ticksOf([low, high], wanted, log) {
  if (log && high / low > 4) { // in a narrower range 1, 2 and 5 may all lie outside
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const step of [1, 2, 5]) all.push(step * 10 ** power);
    const inside = all.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    if (inside.length > 2) return inside.length > wanted + 2 ? inside.filter((v) => /^1/.test(v.toExponential())) : inside;
  }
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

// The domain of an axis: the data with a margin, or from zero where the axis says so.
function padded(values, axis) {
  if (axis.domain) return axis.domain;
  const known = values.filter((value) => value !== null && Number.isFinite(value) && (!axis.log || value > 0));
  let [low, high] = known.length ? extent(known) : [0, 1];
  if (axis.log) return low === high ? [low / 1.5, high * 1.5] : [low / (high / low) ** 0.06, high * (high / low) ** 0.06];
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.05, high + (Math.abs(high) || 1) * 0.05];
  const margin = (high - low) * 0.08;
  const top = axis.format === "percent" && high <= 1 ? Math.min(high + margin, Math.max(high, 1)) : high + margin;
  return [axis.zero ? 0 : low - margin, top];
}

function scaleOf([low, high], [from, to], log) {
  if (log) return (value) => from + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

// A frame with axes. `x` is {domain, log} for numbers or {names} for categories; returns scales and the plot's box.
function frame(plot, figure, x, yDomain) {
  const [width, height] = [plot.clientWidth, plot.clientHeight];
  const box = { left: 62, right: width - 20, top: 28, bottom: height - 46 };
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": summaryOf(figure) }, plot);
  const yScale = scaleOf(yDomain, [box.bottom, box.top], figure.y.log);
  element("text", { x: 2, y: 11 }, svg, figure.y.label);
  for (const value of ticksOf(yDomain, 5, figure.y.log)) {
    element("line", { class: "grid", x1: box.left, x2: box.right, y1: yScale(value), y2: yScale(value) }, svg);
    element("text", { x: box.left - 8, y: yScale(value) + 4, "text-anchor": "end" }, svg, tickText(value, figure.y.format));
  }
  element("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }, svg);
  let xScale;
  if (x.names) {
    const step = (box.right - box.left) / x.names.length;
    xScale = (index) => box.left + (index + 0.5) * step;
    const every = Math.ceil((Math.max(...x.names.map((name) => name.length)) * 7 + 8) / step);
    const rows = every > 1 ? 2 : 1, apart = Math.ceil(every / rows); // names too long for one row are set in two
    x.names.forEach((name, index) => {
      const y = box.bottom + 16 + 13 * ((index / apart) % rows);
      if (index % apart === 0) element("text", { x: xScale(index), y, "text-anchor": "middle" }, svg, name);
    });
  } else {
    xScale = scaleOf(x.domain, [box.left, box.right], x.log);
    for (const value of ticksOf(x.domain, Math.min(6, (box.right - box.left) / 60), x.log))
      if (figure.x.format !== "whole" || Number.isInteger(value))
        element("text", { x: xScale(value), y: box.bottom + 18, "text-anchor": "middle" }, svg, tickText(value, figure.x.format));
  }
  element("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, figure.x.label);
  return { svg, box, xScale, yScale };
}

const pathOf = (points, step) =>
  points.map(([x, y], i) => `${i === 0 ? "M" : step ? `H${x.toFixed(1)}V` : "L"}${i && step ? "" : x.toFixed(1) + " "}${y.toFixed(1)}`).join("");

// Writes a point's name beside it, at the first of eight places where it covers nothing; without one, not at all.
function label(svg, box, taken, x, y, text) {
  const node = element("text", { class: "strong" }, svg, text);
  const width = node.getComputedTextLength();
  const places = [-14, 18, -30, 34].flatMap((dy) => [[x + 11, y + dy], [x - 11 - width, y + dy]]);
  const free = places.filter(([left, base]) => left > box.left && left + width < box.right + 18 &&
    base > 14 && base < box.bottom && taken.every(([l, t, w, h]) => left > l + w || left + width < l || base < t || base - 12 > t + h));
  if (!free.length) return node.remove(); // it is in the tooltip and in the table of numbers
  const [left, base] = free[0];
  taken.push([left, base - 12, width, 14]);
  node.setAttribute("x", left);
  node.setAttribute("y", base);
}

const drawers = {
  lines(plot, figure, state) {
    const shown = figure.series.filter((_, index) => !state.hidden.has(index));
    const all = figure.series.flatMap((s) => [...s.mean, ...s.low, ...s.high]);
    const xs = figure.series.flatMap((s) => s.x);
    const domain = figure.x.domain || (xs.length > 1 && extent(xs)[0] < extent(xs)[1] ? extent(xs) : [xs[0] - 1, xs[0] + 1]);
    const { svg, box, xScale, yScale } = frame(plot, figure, { domain }, padded(all, figure.y));
    const clip = `clip-${figure.id}`;
    element("rect", { x: box.left, y: box.top - 6, width: box.right - box.left, height: box.bottom - box.top + 6 },
      element("clipPath", { id: clip }, svg));
    const layer = element("g", { "clip-path": `url(#${clip})` }, svg);
    const targets = [], keys = [];
    const line = (s, ys) => s.x.map((x, i) => [xScale(x), ys[i]]).filter(([, y]) => y !== null && y !== undefined).map(([x, y]) => [x, yScale(y)]);
    for (const s of shown) {
      const band = [...line(s, s.high), ...line(s, s.low).reverse()];
      if (s.runs.length) element("path", { d: `${pathOf(band)}Z`, fill: color(s.color), opacity: 0.13 }, layer);
      if (!state.runsHidden)
        for (const run of s.runs) {
          const path = element("path", { d: pathOf(line(s, run.y)), fill: "none", stroke: color(s.color), opacity: 0.28, class: "run" }, layer);
          run.y.forEach((y, i) => y !== null && targets.push({ x: xScale(s.x[i]), y: yScale(y), path,
            text: `${run.name}\n${figure.x.label} ${s.x[i]}: ${show(y, figure.y.format)}` }));
        }
    }
    for (const s of shown) {
      element("path", { d: pathOf(line(s, s.mean), figure.step), fill: "none", stroke: color(s.color), "stroke-width": 2.4,
        "stroke-dasharray": DASHES[s.color % 8], class: "mean" }, layer);
      s.mean.forEach((y, i) => y !== null && keys.push({ x: xScale(s.x[i]), y: yScale(y),
        text: `${s.name}${s.runs.length ? ", mean" : ""}\n${figure.x.label} ${show(s.x[i], figure.x.format)}: ${show(y, figure.y.format)}` }));
    }
    return { svg, targets: [...targets, ...keys], keys };
  },

  dots(plot, figure) {
    const ys = figure.groups.flatMap((g) => [g.mean, g.low, g.high, ...g.points.map((p) => p.y)]);
    const { svg, box, xScale, yScale } = frame(plot, figure, { names: figure.groups.map((g) => g.label) }, padded(ys, figure.y));
    const targets = [], keys = [];
    const most = Math.max(...figure.groups.map((g) => g.points.length));
    const gap = Math.min(8, ((box.right - box.left) / figure.groups.length - 28) / most);
    figure.groups.forEach((g, index) => {
      const taken = new Map(); // dots of equal height are drawn side by side
      for (const point of g.points) {
        if (point.y === null) continue;
        const y = yScale(point.y), slot = Math.round(y / 5), place = taken.get(slot) || 0;
        taken.set(slot, place + 1);
        const x = xScale(index) - 9 - place * gap;
        element("circle", { cx: x, cy: y, r: 4, fill: color(g.color), opacity: 0.75, class: "dot" }, svg);
        targets.push({ x, y, text: `${point.name}\n${show(point.y, figure.y.format)}` });
      }
      if (g.mean === null) return;
      const [x, y] = [xScale(index) + 9, yScale(g.mean)];
      if (g.low !== null) element("line", { x1: x, x2: x, y1: yScale(g.low), y2: yScale(g.high), stroke: color(g.color), "stroke-width": 3, "stroke-linecap": "round" }, svg);
      element("line", { x1: x - 7, x2: x + 7, y1: y, y2: y, stroke: color(g.color), "stroke-width": 4 }, svg);
      keys.push({ x, y, text: `${figure.x.label} ${g.label}: mean ${show(g.mean, figure.y.format)}\n95 % interval ${show(g.low, figure.y.format)} to ${show(g.high, figure.y.format)}` });
    });
    return { svg, targets: [...targets, ...keys], keys };
  },

  bars(plot, figure) {
    const { svg, box, xScale, yScale } = frame(plot, figure, { names: figure.bars.map((b) => b.label) }, padded(figure.bars.map((b) => b.y), figure.y));
    const width = Math.min(64, ((box.right - box.left) / figure.bars.length) * 0.6);
    const keys = figure.bars.map((bar, index) => {
      const [x, y] = [xScale(index), yScale(bar.y)];
      element("rect", { x: x - width / 2, y, width, height: Math.max(box.bottom - y, 1), fill: color(bar.color), rx: 3, class: "bar-mark" }, svg);
      if (figure.bars.length <= 8) element("text", { x, y: y - 6, "text-anchor": "middle", class: "strong" }, svg, tickText(bar.y, figure.y.format));
      return { x, y, text: `${bar.label}: ${show(bar.y, figure.y.format)}` };
    });
    return { svg, targets: keys, keys };
  },

  scatter(plot, figure) {
    const xDomain = padded(figure.points.map((p) => p.x), figure.x);
    const { svg, box, xScale, yScale } = frame(plot, figure, { domain: xDomain, log: figure.x.log }, padded(figure.points.flatMap((p) => [p.y, p.low, p.high]), figure.y));
    const front = figure.points.filter((p) => p.front).sort((a, b) => a.x - b.x);
    element("path", { d: pathOf(front.map((p) => [xScale(p.x), yScale(p.y)]), true), fill: "none", stroke: "var(--soft)", "stroke-dasharray": "4 4", class: "front" }, svg);
    const few = figure.points.length <= 8;
    const labels = figure.points.map((p) => [xScale(p.x) - 8, yScale(p.y) - 8, 16, 16]); // labels do not cover dots
    const keys = figure.points.map((point) => {
      const [x, y] = [xScale(point.x), yScale(point.y)];
      if (few && point.low !== null) element("line", { x1: x, x2: x, y1: yScale(point.low), y2: yScale(point.high), stroke: color(point.color), "stroke-width": 2, opacity: 0.6 }, svg);
      element("circle", { cx: x, cy: y, r: few ? 6 : 4, fill: point.front ? color(point.color) : "var(--card)", stroke: color(point.color), "stroke-width": 2, class: "dot" }, svg);
      if (few) label(svg, box, labels, x, y, point.label);
      return { x, y, text: `${point.label}\n${show(point.x, "count")} FLOPs, ${show(point.y, figure.y.format)}` };
    });
    return { svg, targets: keys, keys };
  },

  heat(plot, figure) {
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": summaryOf(figure) }, plot);
    const [columns, rows] = [figure.x.ticks.length, figure.y.ticks.length];
    const box = { left: 76, right: width - 8, top: 8, bottom: height - 46 };
    const [w, h] = [(box.right - box.left) / columns, (box.bottom - box.top) / rows];
    const [low, high] = extent(figure.squares.map((s) => s.value));
    figure.x.ticks.forEach((text, i) => element("text", { x: box.left + (i + 0.5) * w, y: box.bottom + 18, "text-anchor": "middle" }, svg, text));
    figure.y.ticks.forEach((text, i) => element("text", { x: box.left - 8, y: box.bottom - (i + 0.5) * h + 4, "text-anchor": "end" }, svg, text));
    element("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, figure.x.label);
    element("text", { x: 12, y: (box.top + box.bottom) / 2, transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})`, "text-anchor": "middle" }, svg, figure.y.label);
    const keys = figure.squares.map((square) => {
      const share = high > low ? (square.value - low) / (high - low) : 1;
      const [x, y] = [box.left + (square.x + 0.5) * w, box.bottom - (square.y + 0.5) * h];
      element("rect", { x: x - w / 2 + 2, y: y - h / 2 + 2, width: w - 4, height: h - 4, rx: 4, class: "square",
        style: `fill: color-mix(in oklab, var(--c0) ${Math.round(12 + 88 * share)}%, var(--card))` }, svg);
      element("text", { x, y: y + 4, "text-anchor": "middle", style: `fill: ${share > 0.55 ? "var(--card)" : "var(--ink)"}` }, svg,
        w > 64 ? square.text : square.text.replace(" %", ""));
      return { x, y, text: `${figure.x.label} ${figure.x.ticks[square.x]}, ${figure.y.label} ${figure.y.ticks[square.y]}\n${square.text} (n = ${square.n})` };
    });
    return { svg, targets: keys, keys };
  },

  parallel(plot, figure) {
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": summaryOf(figure) }, plot);
    const box = { left: 44, right: width - 76, top: 34, bottom: height - 16 };
    const xScale = (index) => box.left + (index * (box.right - box.left)) / (figure.axes.length - 1);
    const yScale = (share) => box.bottom - share * (box.bottom - box.top);
    const targets = [], keys = [];
    for (const line of figure.lines) {
      const points = line.at.map((share, index) => [xScale(index), yScale(share)]);
      const path = element("path", { d: pathOf(points), fill: "none", "stroke-width": 1.6, class: "run", opacity: 0.25 + 0.75 * line.share,
        style: `stroke: color-mix(in oklab, var(--c0) ${Math.round(15 + 85 * line.share)}%, var(--rule))` }, svg);
      const text = `${line.name}\nvalidation accuracy ${show(line.score, "percent")}`;
      points.forEach(([x, y]) => targets.push({ x, y, path, text }));
      keys.unshift({ x: points.at(-1)[0], y: points.at(-1)[1], path, text });
    }
    figure.axes.forEach((axis, index) => {
      element("line", { class: "axis", x1: xScale(index), x2: xScale(index), y1: box.top, y2: box.bottom }, svg);
      element("text", { x: xScale(index), y: index % 2 ? 10 : 24, "text-anchor": "middle", class: "strong" }, svg, axis.name);
      for (const tick of axis.ticks)
        element("text", { x: xScale(index) + 5, y: yScale(tick.at) + (tick.at === 0 ? -3 : 4), style: "paint-order: stroke; stroke: var(--card); stroke-width: 3px" }, svg, tick.text);
    });
    return { svg, targets, keys };
  },
};

// Highlights the mark nearest to the pointer, or the next one by arrow key, and shows its tooltip.
function explore(svg, targets, keys) {
  const ring = element("circle", { class: "ring", r: 7, visibility: "hidden" }, svg);
  let lit = null, place = -1;
  const clear = () => { ring.setAttribute("visibility", "hidden"); tip.style.visibility = "hidden"; lit?.classList.remove("hot"); lit = null; };
  const select = (mark) => {
    clear();
    for (const [name, value] of [["cx", mark.x], ["cy", mark.y], ["visibility", "visible"]]) ring.setAttribute(name, value);
    (lit = mark.path)?.classList.add("hot");
    tip.textContent = mark.text;
    const area = svg.getBoundingClientRect();
    const [left, top] = [area.left + mark.x + 14, area.top + mark.y - tip.offsetHeight - 10];
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${top < 4 ? top + tip.offsetHeight + 30 : top}px`;
    tip.style.visibility = "visible";
  };
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    let nearest = null, distance = 40 ** 2;
    for (const mark of targets) {
      const d = (mark.x - x) ** 2 + (mark.y - y) ** 2;
      if (d < distance) [nearest, distance] = [mark, d];
    }
    nearest ? select(nearest) : clear();
  });
  svg.addEventListener("pointerleave", clear);
  svg.addEventListener("blur", clear);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") clear();
    if (!step || !keys.length) return;
    event.preventDefault();
    place = (place + step + keys.length) % keys.length;
    select(keys[place]);
  });
}

function draw(plot) {
  const figure = FIGURES[plot.dataset.figure];
  plot.replaceChildren();
  const { svg, targets, keys } = drawers[figure.kind](plot, figure, plot.state);
  explore(svg, targets, keys);
  plot.dataset.drawn = figure.kind;
}

function legendOf(plot) {
  const figure = FIGURES[plot.dataset.figure];
  const legend = plot.previousElementSibling;
  if (!legend?.classList.contains("legend")) return;
  const add = (text, swatch, toggle) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const svg = element("svg", { width: 26, height: 10, "aria-hidden": "true" }, button);
    element("line", { x1: 0, x2: 26, y1: 5, y2: 5, ...swatch }, svg);
    button.append(text);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(on));
      toggle(on);
      draw(plot);
    });
    legend.append(button);
  };
  figure.series.forEach((s, index) =>
    add(s.name, { stroke: color(s.color), "stroke-width": 3, "stroke-dasharray": DASHES[s.color % 8] },
      (on) => (on ? plot.state.hidden.delete(index) : plot.state.hidden.add(index))));
  if (figure.series.some((s) => s.runs.length))
    add("single runs", { stroke: "var(--soft)", opacity: 0.6 }, (on) => (plot.state.runsHidden = !on));
}

// The heads and rows of a figure's table of numbers.
function numbers(figure) {
  const y = (value) => show(value, figure.y.format);
  return {
    lines: () => [[figure.x.label, ...figure.series.map((s) => s.name)],
      figure.series[0].x.map((x, i) => [show(x, figure.x.format), ...figure.series.map((s) => y(s.mean[i]))])],
    dots: () => [[figure.x.label, "n", "mean", "95 % interval", "seeds"],
      figure.groups.map((g) => [g.label, g.points.length, y(g.mean), `${y(g.low)} to ${y(g.high)}`, g.points.map((p) => y(p.y)).join(", ")])],
    bars: () => [[figure.x.label, figure.y.label], figure.bars.map((b) => [b.label, y(b.y)])],
    scatter: () => [["", figure.x.label, figure.y.label, "Pareto front"],
      figure.points.map((p) => [p.label, show(p.x, "count"), y(p.y), p.front ? "yes" : "no"])],
    heat: () => [[figure.x.label, figure.y.label, "mean", "n"],
      figure.squares.map((s) => [figure.x.ticks[s.x], figure.y.ticks[s.y], s.text, s.n])],
    parallel: () => [["run", "validation accuracy"], figure.lines.map((l) => [l.name, show(l.score, "percent")]).reverse()],
  }[figure.kind]();
}

// One sentence for screen readers: the first rows of the numbers, or of curves the last one.
function summaryOf(figure) {
  const [[, ...heads], rows] = numbers(figure);
  const items = figure.kind === "lines" ? heads.map((head, i) => `${head} ends at ${rows.at(-1)[i + 1]}`)
    : rows.slice(0, 12).map(([first, ...rest]) => `${first}: ${rest.slice(0, 3).join(", ")}`);
  return `${figure.title}. ${items.join("; ")}.`;
}

for (const details of document.querySelectorAll("details.numbers"))
  details.addEventListener("toggle", () => {
    const holder = details.querySelector(".scroll");
    if (!details.open || holder.childElementCount) return;
    const [heads, rows] = numbers(FIGURES[details.dataset.figure]);
    const table = document.createElement("table");
    const headRow = table.createTHead().insertRow();
    for (const head of heads) headRow.append(Object.assign(document.createElement("th"), { scope: "col", textContent: head }));
    const body = table.createTBody();
    for (const row of rows) { const line = body.insertRow(); for (const cell of row) line.insertCell().textContent = cell; }
    holder.append(table);
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
function setTheme(value) {
  document.documentElement.dataset.theme = value;
  theme.textContent = `Theme: ${value}`;
}
theme.addEventListener("click", () => {
  const next = { auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme];
  setTheme(next);
  remember.set(next);
});
setTheme(["light", "dark"].find((value) => value === remember.get()) || "auto");

const plots = [...document.querySelectorAll(".plot")];
const widths = new WeakMap();
const watcher = new ResizeObserver((entries) => {
  for (const { target } of entries)
    if (widths.get(target) !== target.clientWidth) { widths.set(target, target.clientWidth); draw(target); }
});
for (const plot of plots) {
  plot.state = { hidden: new Set(), runsHidden: false };
  legendOf(plot);
  widths.set(plot, plot.clientWidth);
  draw(plot);
  watcher.observe(plot);
}
document.documentElement.dataset.ready = String(plots.length);
