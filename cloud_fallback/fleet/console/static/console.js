/* Draws the two charts and says when a page that refreshes itself no longer can. Everything else is HTML. */
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const HEIGHT = 200;
  const DAY_S = 86400;
  const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];
  const STEPS_S = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, DAY_S / 2, DAY_S, 7 * DAY_S, 28 * DAY_S];
  const plots = new Map();
  const online = [[], [], []];

  function clock(_, ticks, __, ___, step) {
    const shape = step >= DAY_S ? {month: "short", day: "numeric"}
      : {hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, hour12: false};
    return ticks.map((at) => new Date(at * 1000).toLocaleString("en-GB", shape));
  }

  function draw(name, series, rows) {
    const box = document.querySelector(`[data-chart="${name}"]`);
    if (!box || rows[0].length < 2) return;
    box.closest(".later").hidden = false;
    const known = plots.get(name);
    if (known) {
      known.setData(rows);
      return;
    }
    const axis = {stroke: colour("--quiet"), grid: {stroke: colour("--line"), width: 1}, ticks: {show: false}};
    const options = {
      width: box.clientWidth,
      height: HEIGHT,
      cursor: {show: false},
      legend: {live: false},
      scales: {y: {range: (_, low, high) => [0, Math.max(1, high * 1.1)]}},
      axes: [{...axis, incrs: STEPS_S, space: 80, values: clock}, {...axis, incrs: STEPS}],
      series: [{}, ...series.map(([label, stroke, dash]) => ({
        label, stroke: colour(stroke), width: 2, dash, points: {show: false}, paths: uPlot.paths.stepped({align: 1}),
      }))],
    };
    plots.set(name, new uPlot(options, rows, box));
  }

  function refresh() {
    const curve = document.getElementById("curve");
    if (curve) draw("curve", [["well", "--good"], ["not well", "--bad", [6, 4]]], JSON.parse(curve.dataset.curve));
    const now = document.getElementById("online-now");
    if (now) {
      [now.dataset.now, now.dataset.online, now.dataset.devices].forEach((text, row) => online[row].push(Number(text)));
      online.forEach((row) => row.splice(0, row.length - 1200));
      draw("online", [["online", "--good"], ["devices", "--quiet", [6, 4]]], online);
    }
  }

  function stale(is) {
    document.getElementById("stale").hidden = !is;
  }

  function again() {
    plots.forEach((plot) => plot.destroy());
    plots.clear();
    refresh();
  }

  document.addEventListener("DOMContentLoaded", refresh);
  document.addEventListener("htmx:afterSettle", () => { stale(false); refresh(); });
  document.addEventListener("htmx:sendError", () => stale(true));
  document.addEventListener("htmx:responseError", () => stale(true));
  window.addEventListener("resize", () => plots.forEach((plot) => plot.setSize({width: plot.root.parentElement.clientWidth, height: HEIGHT})));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
})();
