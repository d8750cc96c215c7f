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
