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
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
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
