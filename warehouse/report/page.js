"use strict";
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const legendEntryWidth = 190;
  const legendLineHeight = 19;

  function draw(element) {
    const figure = JSON.parse(document.getElementById(element.dataset.figure).textContent);
    const theme = getComputedStyle(document.documentElement);
    const text = theme.getPropertyValue("--soft").trim();
    const grid = theme.getPropertyValue("--line").trim();
    const card = theme.getPropertyValue("--card").trim();
    const layout = figure.layout;
    layout.font = { family: theme.getPropertyValue("--font").trim(), size: 12, color: text };
    layout.hoverlabel = { bgcolor: card, bordercolor: grid, font: { color: theme.getPropertyValue("--text").trim() } };
    // A legend of several lines gets its own height instead of the bars'.
    if (layout.showlegend) {
      const perLine = Math.max(1, Math.floor(element.clientWidth / legendEntryWidth));
      layout.height += legendLineHeight * (Math.ceil(figure.data.length / perLine) - 1);
    }
    for (const axis of [layout.xaxis, layout.yaxis]) {
      axis.gridcolor = grid;
      axis.linecolor = grid;
      axis.tickcolor = grid;
    }
    Plotly.react(element, figure.data, layout, { displayModeBar: false, responsive: true });
  }

  function drawAll() {
    document.querySelectorAll(".chart").forEach(draw);
  }

  dark.addEventListener("change", drawAll);
  drawAll();
})();
