"use strict";
// Asks the server for what has changed, and puts it where it belongs: what is unfolded, chosen or zoomed stays so.
(() => {
  const seconds = 2;
  const whole = new Set(["MAIN", "SECTION", "DIV", "DETAILS", "FIGURE", "HEADER"]);
  let version = "", failures = 0;

  function merge(old, fresh) {
    if (old.classList.contains("plot") || old.isEqualNode(fresh)) return;
    const alike = old.tagName === fresh.tagName && old.id === fresh.id && old.children.length === fresh.children.length;
    if (!alike || !whole.has(old.tagName) || !old.children.length) { old.replaceWith(fresh); return; }
    const pairs = [...old.children].map((child, index) => [child, fresh.children[index]]);
    for (const [one, other] of pairs) merge(one, other);
  }

  function element(html) {
    return new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  }

  function take(parts) {
    const drawn = Object.keys(parts.plots);
    // A page that had nothing to draw has no plotly.js; one that is finished has scripts of its own.
    if (parts.over || (drawn.length && !document.getElementById("plots"))) { location.reload(); return; }
    const main = document.querySelector("main"), names = Object.keys(parts.sections);
    // Sections may come and go: what follows is put after the one before it.
    for (const section of [...main.children]) if (!names.includes(section.id)) section.remove();
    names.forEach((name, place) => {
      const old = document.getElementById(name), fresh = element(parts.sections[name]);
      if (old === null) main.insertBefore(fresh, main.children[place] ?? null); else merge(old, fresh);
    });
    merge(document.querySelector("header"), element(parts.header));
    document.dispatchEvent(new CustomEvent("redense:plots", {detail: parts.plots}));
  }

  async function follow() {
    try {
      const answer = await fetch(`${location.pathname}?since=${encodeURIComponent(version)}`, {cache: "no-store"});
      if (answer.status === 200) {
        const parts = await answer.json();
        version = parts.version;
        take(parts);  // the first answer too: something may be new since the page was sent
      }
      failures = 0;
    } catch { failures += 1; }
    document.getElementById("lost").hidden = failures < 2;
    setTimeout(follow, 1000 * seconds * Math.min(1 + failures, 15));
  }
  const lost = document.createElement("p");
  const said = "The server does not answer: this is what it said last.";
  Object.assign(lost, {id: "lost", hidden: true, textContent: said});
  document.querySelector("header").after(lost);
  follow();
})();
