"use strict";
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const legendEntryWidth = 190;
  const legendLineHeight = 19;
  const charts = Array.from(document.querySelectorAll(".chart"));

  function read(element) {
    return JSON.parse(document.getElementById(element.dataset.figure).textContent);
  }

  // The figure's height is its least: a chart fills a card that its neighbour makes higher. A legend of several lines
  // gets its own height instead of the bars'.
  function reserve(element) {
    const { data, layout } = read(element);
    const perLine = Math.max(1, Math.floor(element.clientWidth / legendEntryWidth));
    const legendLines = layout.showlegend ? Math.ceil(data.length / perLine) - 1 : 0;
    element.style.minHeight = layout.height + legendLineHeight * legendLines + "px";
  }

  function draw(element) {
    const { data, layout } = read(element);
    const theme = getComputedStyle(document.documentElement);
    const colour = (name) => theme.getPropertyValue(name).trim();
    delete layout.height;
    layout.font = { family: colour("--font"), size: 12, color: colour("--soft") };
    layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } };
    for (const axis of [layout.xaxis, layout.yaxis]) {
      axis.gridcolor = axis.linecolor = axis.tickcolor = colour("--line");
    }
    Plotly.react(element, data, layout, { displayModeBar: false, responsive: true });
  }

  charts.forEach(reserve);
  charts.forEach(draw);
  dark.addEventListener("change", () => charts.forEach(draw));
})();
