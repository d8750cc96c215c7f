"""What the sections on recognisers add to the style sheet and the script of a page."""

from __future__ import annotations

STYLE = """\
:root { --sub: #8a4b00; --del: #a3151f; --ins: #0b5e43; }
@media screen and (prefers-color-scheme: dark) {
  :root:not(.print) { --sub: #e8a95a; --del: #f29a9f; --ins: #7fd0ae; }
}
.clips { list-style: none; margin: 0; padding: 0; }
.clips li { padding: 0.75rem 0.25rem 0.75rem 0; border-bottom: 1px solid var(--grid); }
.clips li[hidden] { display: none; }
.clips li:last-child { border-bottom: 0; }
.clip-head { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 1rem; margin: 0 0 0.35rem; }
.clip-head span { font-size: 0.8125rem; color: var(--muted); }
.clips audio { height: 2rem; max-width: 100%; }
.heard { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr; gap: 0.15rem 0.9rem; margin: 0; }
.heard dt { color: var(--muted); font-size: 0.8125rem; line-height: 1.6rem; }
.heard dd { margin: 0; min-width: 0; overflow-wrap: anywhere; line-height: 1.6rem; }
.sub, .del, .ins { font-weight: 600; text-decoration: none; padding: 0 0.15em; white-space: pre-wrap; }
.sub { color: var(--sub); border-bottom: 2px dotted currentColor; }
.del { color: var(--del); border-bottom: 2px solid currentColor; }
.ins { color: var(--ins); border: 1px solid currentColor; border-radius: 0.2em; }
.heard-list { max-height: 34rem; }
.finder { display: flex; flex-wrap: wrap; gap: 0.35rem 1.25rem; }
.finder[hidden] { display: none; }
.finder input {
  font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line); border-radius: 0.25rem;
  padding: 0.1rem 0.4rem; max-width: 12rem;
}
.finder input:focus-visible, .clips audio:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 36rem) { .heard { grid-template-columns: 1fr; } .heard dt { line-height: 1.2; margin-top: 0.3rem; } }
@media print {
  .heard-list { max-height: none; }
  .clips li { break-inside: avoid; }
  .clips audio { display: none; }
}
"""

SCRIPT = """\
"use strict";
(() => {
  const finder = document.querySelector("#transcripts .finder");
  if (!finder) return;
  const select = finder.querySelector("select");
  const search = finder.querySelector("input");
  const apply = () => {
    const wanted = search.value.trim().toLocaleLowerCase();
    for (const list of document.querySelectorAll("#transcripts .heard-list")) {
      let shown = 0;
      for (const clip of list.querySelectorAll("li")) {
        const there = clip.querySelector(".heard").textContent.toLocaleLowerCase().includes(wanted);
        clip.hidden = !there || (select !== null && select.value !== "" && clip.dataset.set !== select.value);
        shown += !clip.hidden;
      }
      list.querySelector(".none").hidden = shown > 0;
    }
  };
  if (select) select.addEventListener("change", apply);
  search.addEventListener("input", apply);
  // One clip is heard at a time.
  document.querySelector("#transcripts").addEventListener("play", (event) => {
    for (const other of document.querySelectorAll("#transcripts audio")) if (other !== event.target) other.pause();
  }, true);
  finder.hidden = false;
  apply();
})();
"""
