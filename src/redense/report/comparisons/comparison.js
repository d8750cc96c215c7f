"use strict";
// Runs after the script that draws all plots, and draws them again for a new width or theme.
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
