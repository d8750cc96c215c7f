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
