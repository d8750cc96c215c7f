"""What the sections on captions add to the style sheet and the script of a page."""

from __future__ import annotations

STYLE = """\
.bleu td small { display: block; color: var(--muted); font-size: 0.75rem; }
.bleu .papers { color: var(--muted); }
.captions .controls { display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; max-width: none; font-size: 0.875rem; }
.captions .controls[hidden] { display: none; }
.captions input {
  font: inherit; color: var(--ink); background: var(--raised); border: 1px solid var(--line); border-radius: 3px;
  padding: 0.2rem 0.4rem; width: 14rem; max-width: 100%;
}
.captions input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.captions .gallery { max-height: 48rem; }
.gallery ul { list-style: none; margin: 0; padding: 0; }
.gallery > ul {
  display: grid; gap: 1.5rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr));
}
.gallery > ul > li { display: flex; gap: 0.9rem; font-size: 0.8125rem; line-height: 1.4; min-width: 0; }
.gallery > ul > li[hidden] { display: none; }
.gallery img { width: 96px; height: 96px; object-fit: contain; flex: none; background: var(--sunk); }
.gallery .told { min-width: 0; flex: 1; overflow-wrap: anywhere; }
.gallery dl { display: grid; grid-template-columns: auto 1fr auto; gap: 0.15rem 0.6rem; margin: 0; }
.gallery dl div { display: contents; }
.gallery dt { color: var(--muted); overflow-wrap: normal; }
.gallery dd { margin: 0; }
.gallery .score { text-align: right; color: var(--muted); }
.gallery .best .score { color: var(--ink); font-weight: 600; }
.gallery .none-said { color: var(--muted); font-style: italic; }
.gallery .references { margin-top: 0.4rem; color: var(--muted); }
.gallery .references li::before { content: "\\201C"; }
.gallery .references li::after { content: "\\201D"; }
.gallery .file { color: var(--muted); font-size: 0.6875rem; margin-top: 0.3rem; }
.gallery details { margin-top: 0.25rem; }
@media (max-width: 36rem) {
  .captions .gallery { max-height: 36rem; }
  .gallery > ul > li { gap: 0.7rem; }
  .gallery img { width: 64px; height: 64px; }
  .captions .controls select, .captions input { width: 100%; }
  .captions .controls label { flex: 1 1 100%; }
}
@media print {
  .captions .gallery { max-height: none; }
  .gallery > ul { grid-template-columns: 1fr 1fr; }
  .gallery > ul > li { break-inside: avoid; }
}
"""

SCRIPT = """\
"use strict";
(() => {
  const section = document.querySelector("#captions");
  const controls = section && section.querySelector(".controls");
  if (!controls) return;
  const select = controls.querySelector("select"), search = controls.querySelector("input");
  const list = section.querySelector(".gallery > ul"), cards = [...list.children];
  const gain = (card) => Number(card.dataset.gain);
  const orders = {
    random: (a, b) => a.dataset.index - b.dataset.index,
    won: (a, b) => gain(b) - gain(a),
    lost: (a, b) => gain(a) - gain(b),
    different: (a, b) => Math.abs(gain(b)) - Math.abs(gain(a)),
  };
  const texts = new Map(cards.map((card) => [card, card.querySelector(".told").textContent.toLowerCase()]));
  const apply = () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const card of [...cards].sort(orders[select.value])) {
      const chosen = select.value === "different" || card.dataset.groups.split(" ").includes(select.value);
      card.hidden = !(chosen && words.every((word) => texts.get(card).includes(word)));
      shown += !card.hidden;
      list.append(card);
    }
    section.querySelector(".gallery").scrollTop = 0;
    section.querySelector(".none").hidden = shown > 0;
  };
  select.addEventListener("change", apply);
  search.addEventListener("input", apply);
  controls.hidden = false;
  apply();
})();
"""
