"""The page's own style sheet and script. Both go into the page as they are; neither loads anything."""

from __future__ import annotations

# One blue on ink and paper. Dark is for screens alone, so that print is always ink on paper. `:root.print` is set by
# the script while the page prints: a plot has its colours drawn in and must be drawn again in those of paper.
STYLE = """\
:root {
  color-scheme: light;
  --paper: #ffffff; --raised: #ffffff; --sunk: #f5f6f8;
  --ink: #16191f; --muted: #575e6a; --line: #c9ced6; --grid: #e8ebef;
  --accent: #0b57a4; --thin: #a9c1dc; --band: #e9f0f8; --second: #a34a0d;
  --sans: system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root:not(.print) {
    color-scheme: dark;
    --paper: #14171c; --raised: #1f242c; --sunk: #1b1f26;
    --ink: #e6e8eb; --muted: #a3abb8; --line: #3d4550; --grid: #262c35;
    --accent: #82b6ee; --thin: #42607f; --band: #1b2836; --second: #e39455;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); font-variant-numeric: lining-nums tabular-nums;
}
header, main, footer { max-width: 58rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; }
h1, h2, h3 { line-height: 1.2; font-weight: 650; text-wrap: balance; }
h1 { font-size: 2rem; margin: 0; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 0.5rem; }
h3 { font-size: 1rem; margin: 2rem 0 0.5rem; }
p { margin: 0 0 0.75rem; max-width: 42rem; text-wrap: pretty; overflow-wrap: break-word; }
a { color: var(--accent); text-underline-offset: 0.15em; }
a:focus-visible, summary:focus-visible, select:focus-visible,
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.eyebrow, .facts, .contents, .note, figcaption, caption, footer { color: var(--muted); font-size: 0.875rem; }
.eyebrow { margin: 0 0 0.35rem; }
.facts { margin: 0.5rem 0 0; max-width: none; }
.contents ul { list-style: none; margin: 1rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; }
section { margin-top: 2.25rem; padding-top: 1.75rem; border-top: 1px solid var(--line); }

.verdict .sentence {
  font-size: 1.375rem; line-height: 1.35; font-weight: 500; max-width: 46rem; margin-bottom: 1.25rem;
}
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1rem 2rem; margin: 0 0 1.5rem;
}
.figures div { border-top: 2px solid var(--ink); padding-top: 0.5rem; display: flex; flex-direction: column; }
.figures .missing { border-top-style: dashed; border-top-color: var(--muted); }
.figures dt { font-size: 0.875rem; }
.figures dd { margin: 0; }
.figures .value { font-size: 1.875rem; line-height: 1.25; letter-spacing: -0.01em; }
.figures .missing .value { color: var(--muted); }
.figures .note { line-height: 1.4; }

table { border-collapse: collapse; font-size: 0.875rem; line-height: 1.4; }
caption { text-align: left; padding-bottom: 0.5rem; max-width: min(42rem, calc(100vw - 2rem)); }
th, td {
  padding: 0.4rem 1.25rem 0.4rem 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--grid);
}
th:last-child, td:last-child { padding-right: 0.25rem; }
thead th { font-weight: 500; color: var(--muted); border-bottom: 1px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr:last-child > * { border-bottom-color: var(--line); }
.number { text-align: right; white-space: nowrap; }
.nowrap { white-space: nowrap; }
.quiet { color: var(--muted); }
.wide { width: 100%; }
/* A shadow at the edge where more can be scrolled into view. */
.scroll {
  overflow-x: auto; margin: 1rem 0; position: relative; background:
    linear-gradient(to right, var(--paper) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--line), transparent) left / 0.75rem 100% no-repeat scroll,
    linear-gradient(to left, var(--line), transparent) right / 0.75rem 100% no-repeat scroll;
}
.tall { max-height: 34rem; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; background: var(--paper); box-shadow: 0 1px var(--ink); }
.environment th { width: 14rem; white-space: normal; }
.environment td { overflow-wrap: anywhere; }

figure { margin: 1.25rem 0 0; }
.plot { min-height: 150px; }
figcaption { max-width: 42rem; margin-top: 0.5rem; }
details { margin-top: 0.75rem; }
summary { cursor: pointer; font-size: 0.875rem; color: var(--accent); }
.chooser { font-size: 0.875rem; }
select {
  font: inherit; color: var(--ink); background: var(--raised); border: 1px solid var(--line); border-radius: 3px;
  padding: 0.2rem 0.4rem; max-width: 100%;
}
code, pre { font-family: var(--mono); font-size: 0.8125rem; }
code { overflow-wrap: anywhere; }
th code { overflow-wrap: normal; }
pre {
  margin: 0.5rem 0 1rem; padding: 0.75rem 1rem; background: var(--sunk); line-height: 1.5;
  white-space: pre-wrap; overflow-wrap: anywhere; border-left: 2px solid var(--line);
}
.command span { display: inline-block; max-width: 100%; }
.commands { margin: 0.5rem 0; }
.commands dt { font-size: 0.875rem; margin-top: 0.75rem; }
.commands dd { margin: 0; }
.commands pre { margin: 0.25rem 0 0; }
footer { margin-top: 3rem; padding-bottom: 3rem; }

@media (max-width: 36rem) {
  header, main, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.75rem; }
  h1 { font-size: 1.625rem; }
  .verdict .sentence { font-size: 1.1875rem; }
  .figures { grid-template-columns: 1fr; gap: 0.75rem; }
  .figures div { display: grid; grid-template-columns: 1fr auto; }
  .figures .value { font-size: 1.5rem; grid-area: 1 / 2 / 3 / 3; align-self: center; }
  th, td { padding-right: 0.9rem; }
  table { font-size: 0.8125rem; }
  .environment th { width: 9rem; }
}
@media print {
  @page { margin: 16mm; }
  body { font-size: 10pt; }
  header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
  header { padding-top: 0; }
  .contents, .screen, .modebar-container { display: none; }
  .scroll, .tall { overflow: visible; max-height: none; }
  .tall thead th { position: static; }
  h2, h3, dt, section > p { break-after: avoid; }
  .plot { overflow: hidden; }
  p { break-inside: avoid; }
  table { font-size: 8pt; }
  table code { font-size: 7.5pt; }
  th, td, tbody th, .number { padding: 0.25rem 0.75rem 0.25rem 0; white-space: normal; }
  .scroll { background: none; }
  figure, .figures, tr { break-inside: avoid; }
  a { color: inherit; text-decoration: none; }
}
"""

SCRIPT = """\
"use strict";
(() => {
  let plots = JSON.parse(document.getElementById("plots").textContent);
  const root = document.documentElement;
  const touch = matchMedia("(pointer: coarse)");
  const paper = {width: 650, height: 800};

  // Colours are given as names of CSS variables.
  function painted(value, key, style) {
    if (typeof value === "string") {
      return /color$/i.test(key) && value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => painted(item, key, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, painted(item, name, style)]));
    }
    return value;
  }

  // A phase's name stands above its stretch of the plot, shortened or left out where it finds no room.
  function names(bands, width) {
    const total = Math.max(1, ...bands.map((band) => band.end));
    return bands.flatMap((band) => {
      const room = ((band.end - band.start) / total) * width - 6;
      const text = [band.text, band.text.split(" ")[0]].find((option) => option.length * 6.6 <= room);
      return text === undefined ? [] : [{
        text, x: (band.start + band.end) / 2, xref: "x", y: 1, yref: "paper", yanchor: "top",
        showarrow: false, font: {color: "--ink", size: 12},
      }];
    });
  }

  // A plot of choices has what differs between them: the same parts of every trace, and parts of the layout.
  const chosen = {};
  function current(id) {
    const plot = plots[id];
    const choice = plot.choices?.[chosen[id] ?? 0];
    if (!choice) return plot;
    const data = plot.data.map((trace, index) => ({...trace, ...choice.data[index]}));
    return {...plot, data, layout: {...plot.layout, ...choice.layout}};
  }

  function draw() {
    const style = getComputedStyle(root);
    const printing = root.classList.contains("print");
    for (const id of Object.keys(plots)) {
      const plot = current(id);
      const element = document.getElementById(id);
      if (!element) continue;
      const width = printing ? paper.width : element.clientWidth;
      const margin = plot.layout.margin;
      const annotations = [...(plot.layout.annotations || []), ...names(plot.bands, width - margin.l - margin.r)];
      const layout = painted({...plot.layout, annotations, width}, "", style);
      layout.uirevision = chosen[id] ?? 0;  // drawn again with more in it, a plot stays zoomed as it was
      if (printing) layout.height = Math.min(layout.height, paper.height);
      // A finger that drags over a plot scrolls the page.
      layout.dragmode = touch.matches ? false : "zoom";
      Plotly.react(element, painted(plot.data, "", style), layout, {
        displaylogo: false,
        displayModeBar: touch.matches ? false : "hover",
        // By default plotly.js offers to upload the plot: nothing leaves this page.
        modeBarButtons: [["toImage", "resetScale2d"]],
        showSendToCloud: false,
        plotlyServerURL: "",
        toImageButtonOptions: {format: "svg", filename: `redense-${id}`},
      });
      // Read aloud, a plot is a heap of ticks; its label and the table say what it shows.
      for (const svg of element.querySelectorAll("svg.main-svg")) svg.setAttribute("aria-hidden", "true");
    }
  }

  for (const select of document.querySelectorAll("select[data-plot]")) {
    const id = select.dataset.plot;
    const parts = document.querySelectorAll(`[data-choice="${id}"]`);
    const choose = () => {
      chosen[id] = Number(select.value);
      parts.forEach((part, index) => { part.hidden = index % select.options.length !== chosen[id]; });
    };
    select.addEventListener("change", () => { choose(); draw(); });
    choose();  // a browser may have kept what was chosen before the page was loaded again
  }

  let pending = 0;
  let width = root.clientWidth;
  addEventListener("resize", () => {
    if (root.clientWidth === width || root.classList.contains("print")) return;
    width = root.clientWidth;
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(draw);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => { root.classList.add("print"); draw(); });
  document.addEventListener("redense:plots", (event) => { plots = event.detail; draw(); });  // of a run that goes on
  addEventListener("afterprint", () => { root.classList.remove("print"); draw(); });
  draw();
})();
"""
