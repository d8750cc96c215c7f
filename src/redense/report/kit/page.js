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
