"""What the sections on classifiers add to the style sheet and the script of a page."""

from __future__ import annotations

# A cell's colour is its share of the strongest one. At the fullest it still has contrast with the ink on it.
STYLE = """\
:root { --fullest: 62%; }
@media screen and (prefers-color-scheme: dark) { :root:not(.print) { --fullest: 42%; } }
.matrix { font-size: 0.75rem; border-collapse: separate; border-spacing: 1px; }
.matrix td, .matrix th { padding: 0; border: 0; line-height: 1.2; }
.matrix tbody td { width: 1.95rem; min-width: 1.95rem; height: 1.75rem; text-align: center; vertical-align: middle; }
.matrix tbody td[style] {
  background: color-mix(in srgb, var(--accent) calc(var(--heat) * var(--fullest)), var(--paper));
}
.matrix tbody td:not([style]) { background: var(--sunk); }
.matrix tbody .right { color: var(--muted); background: var(--grid); }
.matrix tbody th {
  padding-right: 0.4rem; text-align: right; vertical-align: middle; font-weight: 400;
  position: sticky; left: 0; background: var(--paper);
}
.matrix.many { font-size: 0.6875rem; }
.matrix.many tbody td { width: 1.5rem; min-width: 1.5rem; height: 1.5rem; }
.matrix thead td { vertical-align: bottom; text-align: right; padding-right: 0.4rem; color: var(--muted); }
.matrix thead th { border: 0; text-align: center; vertical-align: bottom; font-weight: 400; color: var(--ink); }
.matrix thead th span {
  writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; padding: 0.3rem 0;
}
.confusions .pair {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem;
}
.confusions .pair > * { min-width: 0; }
.cards {
  list-style: none; margin: 0; padding: 0; display: grid; gap: 0.85rem 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15.5rem, 100%), 1fr));
}
.cards li { display: flex; gap: 0.75rem; font-size: 0.8125rem; line-height: 1.35; min-width: 0; }
.cards li[hidden] { display: none; }
.cards img {
  width: 64px; height: 64px; object-fit: contain; flex: none; background: var(--sunk); image-rendering: pixelated;
}
.cards div { min-width: 0; overflow-wrap: anywhere; }
.cards b { font-weight: 600; }
.cards span { display: block; color: var(--muted); }
.changed { max-height: 30rem; }
@media (max-width: 36rem) {
  .matrix { font-size: 0.6875rem; }
  .matrix tbody td { width: 1.6rem; min-width: 1.6rem; }
}
@media print {
  .changed { max-height: none; }
  .cards { grid-template-columns: repeat(3, 1fr); }
  .cards li { break-inside: avoid; }
  .matrix td, .matrix th, .matrix tbody th { padding: 0 0.2rem 0 0; white-space: nowrap; }
  .matrix { print-color-adjust: exact; break-inside: avoid; }
}
"""

SCRIPT = """\
"use strict";
(() => {
  const chooser = document.querySelector("#changes .chooser");
  if (!chooser) return;
  const select = chooser.querySelector("select");
  const apply = () => {
    for (const list of document.querySelectorAll("#changes .changed")) {
      let shown = 0;
      for (const card of list.querySelectorAll("li")) {
        card.hidden = select.value !== "" && card.dataset.label !== select.value;
        shown += !card.hidden;
      }
      list.querySelector(".none").hidden = shown > 0;
    }
  };
  select.addEventListener("change", apply);
  chooser.hidden = false;
  apply();
})();
"""
