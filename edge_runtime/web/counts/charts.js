/* The charts of the page of counts: bars, steps and a heatmap, in the page's own colours. Asks for no data. */
const HEIGHT = 220;
const UPLOT = "/assets/uplot.min.js";
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4];
const plots = new Map();
let loading;

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* uPlot is no module: it is loaded as a plain script, once. */
export function load() {
  loading ??= new Promise((ready, failed) => {
    const script = document.createElement("script");
    script.src = UPLOT;
    script.onload = ready;
    script.onerror = () => failed(new Error(`${UPLOT} does not load`));
    document.head.append(script);
  });
  return loading;
}

function axis(more) {
  return {stroke: colour("--quiet"), grid: {stroke: colour("--line"), width: 1}, ticks: {show: false}, font: "13px system-ui", ...more};
}

function draw(box, options, rows) {
  plots.get(box)?.destroy();
  const plot = new window.uPlot({
    width: box.clientWidth,
    height: HEIGHT,
    legend: {live: true},
    cursor: {drag: {x: false, y: false}, points: {size: 6}},
    ...options,
    scales: {...options.scales, y: {range: (_, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)]}},
  }, rows, box);
  plots.set(box, plot);
}

/* Bars side by side. `series`: [label, colour variable, values]; `names`: of the groups, each a `what`. */
export function bars(box, what, names, series) {
  const at = names.map((_, index) => index);
  const many = series.length;
  const shape = (place) => window.uPlot.paths.bars({size: [0.8 / many, 60], align: many === 1 ? 0 : place === 0 ? -1 : 1});
  const every = Math.ceil(names.length / Math.max(1, Math.floor(box.clientWidth / (8 * Math.max(...names.map((name) => name.length)) + 14))));
  draw(box, {
    scales: {x: {time: false, range: [-0.6, names.length - 0.4]}},
    axes: [
      axis({splits: () => at.filter((index) => index % every === 0), values: (_, ticks) => ticks.map((index) => names[index] ?? ""), grid: {show: false}}),
      axis({incrs: STEPS, size: 46}),
    ],
    series: [
      {label: what, value: (_, index) => names[index] ?? ""},
      ...series.map(([label, stroke], place) => ({
        label, stroke: colour(stroke), fill: colour(stroke), width: 0, points: {show: false}, paths: shape(place),
      })),
    ],
  }, [at, ...series.map(([, , values]) => values)]);
}

/* Steps over a day. `series`: [label, colour variable, values, dashes or "bars"?]. */
export function steps(box, found, series) {
  const length = series[0][2].length;
  const at = Array.from({length}, (_, index) => found.begin + found.slot * index);
  const local = (seconds) => window.uPlot.tzDate(new Date(seconds * 1e3), found.timezone);
  const clock = (seconds) => local(seconds).toTimeString().slice(0, 5);
  draw(box, {
    tzDate: local,
    scales: {x: {range: [found.begin, found.end]}},
    axes: [
      axis({incrs: [3600, 2 * 3600, 3 * 3600, 6 * 3600], space: 60, values: (_, ticks) => ticks.map(clock)}),
      axis({incrs: STEPS, size: 46}),
    ],
    series: [
      {label: "time", value: (_, seconds) => (seconds === null ? "" : clock(seconds))},
      ...series.map(([label, stroke, , way]) => (way === "bars"
        ? {label, stroke: colour(stroke), fill: colour(stroke), width: 0, points: {show: false}, paths: window.uPlot.paths.bars({size: [1, 8, 3]})}
        : {label, stroke: colour(stroke), width: 2, dash: way, points: {show: false}, paths: window.uPlot.paths.stepped({align: 1})})),
    ],
  }, [at, ...series.map(([, , values]) => values)]);
}

/* A heatmap over a plain ground: from nothing through --going to --bad, by the square root of the seconds, so
   that a walk is seen beside a till. */
export function heat(canvas, found) {
  canvas.width = found.columns;
  canvas.height = found.rows;
  const paint = canvas.getContext("2d");
  const image = paint.createImageData(found.columns, found.rows);
  const [low, high] = ["--going", "--bad"].map(rgb);
  found.seconds.forEach((seconds, index) => {
    const share = found.most ? Math.sqrt(seconds / found.most) : 0;
    for (let part = 0; part < 3; part += 1) image.data[4 * index + part] = low[part] + (high[part] - low[part]) * share;
    image.data[4 * index + 3] = share ? 60 + 195 * share : 0;
  });
  paint.putImageData(image, 0, 0);
}

function rgb(name) {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = colour(name) || "#888";
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

export function resize() {
  plots.forEach((plot, box) => plot.setSize({width: box.clientWidth, height: HEIGHT}));
}
