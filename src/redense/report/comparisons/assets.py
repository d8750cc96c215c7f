"""What the page of a comparison adds to the style sheet and the script of a run's page."""

from __future__ import annotations

# Six hues, each the same in both themes. On paper every one has a contrast of 3 or more; between any two, and ink, the
# distance is at least 20 (CIE 1976) with normal vision and with each of the three dichromacies (Machado et al. 2009).
STYLE = """\
:root {
  --arm-1: #0b57a4; --arm-2: #742506; --arm-3: #0da35b; --arm-4: #7b13e6; --arm-5: #9a9500; --arm-6: #b76591;
  --strip: #dde1e7;
}
@media screen and (prefers-color-scheme: dark) {
  :root:not(.print) {
    --arm-1: #82b6ee; --arm-2: #a55e1f; --arm-3: #3e7358; --arm-4: #9f4aff; --arm-5: #ffc653; --arm-6: #ff3eac;
    --strip: #343b46;
  }
}
.swatch { width: 28px; height: 12px; vertical-align: -0.05em; flex: none; overflow: visible; }
.conclusions { margin: 0 0 1.25rem; border-top: 1px solid var(--line); }
.conclusions > div {
  display: grid; grid-template-columns: 13rem 1fr; gap: 0.15rem 1.5rem; padding: 0.55rem 0;
  border-bottom: 1px solid var(--grid);
}
.conclusions > div:last-child { border-bottom-color: var(--line); }
.conclusions dt { font-weight: 600; overflow-wrap: anywhere; }
.conclusions dt .swatch { margin-right: 0.6rem; }
.conclusions dd { margin: 0; }
.conclusions .gain { font-weight: 650; }
.caution { border-left: 3px solid var(--ink); padding: 0.1rem 0 0.1rem 1rem; }
.key, .toggles {
  display: flex; flex-wrap: wrap; gap: 0.35rem 1.25rem; margin: 1rem 0 0; padding: 0; font-size: 0.875rem;
}
.key { list-style: none; }
.key li, .toggles label { display: inline-flex; align-items: center; gap: 0.5rem; }
.toggles { border: 0; min-width: 0; }
.toggles legend { padding: 0; color: var(--muted); float: left; margin-right: 1.25rem; }
.toggles label { cursor: pointer; }
.toggles input { accent-color: var(--accent); margin: 0; width: 1rem; height: 1rem; }
.toggles label:has(input:not(:checked)) { color: var(--muted); }
.toggles button {
  font: inherit; color: var(--accent); background: none; border: 0; padding: 0; cursor: pointer;
  text-decoration: underline; text-underline-offset: 0.15em;
}
.toggles :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.pair {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0 2rem;
  margin-bottom: 0.75rem;
}
.pair > * { min-width: 0; }
.pair h3 { margin-top: 1.25rem; }
.pair figure { margin-top: 0; }
.said { margin: 0.75rem 0; padding-left: 1.1rem; font-size: 0.875rem; max-width: 46rem; }
.said li { margin-bottom: 0.35rem; }
.wrap { display: inline-block; white-space: normal; min-width: 13rem; }
.better, .worse { font-weight: 600; }
.arms thead th { white-space: normal; }
/* The column of notes needs more room than text does. */
.scroll:has(.noted) { margin-inline: min(0px, (min(58rem, 100vw) - min(72rem, 100vw)) / 2); }
.noted :is(th, td) { padding-right: 0.9rem; }
th .about { display: block; color: var(--muted); font-weight: 400; white-space: normal; min-width: 11rem; }
td .under { display: block; color: var(--muted); font-size: 0.8125rem; }
@media (max-width: 36rem) {
  .conclusions > div { grid-template-columns: 1fr; }
  .toggles label { min-height: 1.75rem; }
}
@media print {
  .pair { grid-template-columns: 1fr; }
  .toggles input, .toggles button, .toggles legend { display: none; }
  .conclusions > div { display: block; break-inside: avoid; padding: 0.3rem 0; }
  .conclusions dt, .conclusions dd { display: inline; }
  .conclusions dt { margin-right: 0.75rem; }
  .caution, .verdict > .note { break-after: auto; }
  .said li { break-inside: avoid; }
  .key, .toggles, table caption, thead { break-after: avoid; }
  .pair ~ .note { break-before: avoid; }
  .figures { grid-template-columns: repeat(4, 1fr); gap: 1rem; }
  details:not([open]) { display: none; }
  .wrap, th .about { min-width: 0; }
  .scroll:has(.noted) { margin-inline: 0; }
}
"""

# Runs after the script of assets.py, which draws all plots, and draws them again for a new width or theme.
SCRIPT = """\
"use strict";
(() => {
  const plot = document.getElementById("curves");
  const boxes = [...document.querySelectorAll(".toggles input")];
  if (!plot || !boxes.length) return;

  function apply() {
    const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
    const changed = plot.data.map((trace, index) => index).filter((index) => {
      const trace = plot.data[index];
      return (trace.visible ?? true) === hidden.has(trace.legendgroup);
    });
    if (!changed.length) return;
    Plotly.restyle(plot, {visible: changed.map((index) => !hidden.has(plot.data[index].legendgroup))}, changed);
  }

  for (const box of boxes) box.addEventListener("change", apply);
  for (const button of document.querySelectorAll(".toggles button")) {
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = button.value === "all";
      apply();
    });
  }
  // The plots are drawn again with all arms. The printer does not wait for the event that says so.
  plot.on("plotly_afterplot", apply);
  for (const event of ["beforeprint", "afterprint"]) addEventListener(event, apply);
  apply();
})();
"""
