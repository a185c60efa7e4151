/* The page of counts: asks for a day, and has it drawn; today's again every half minute while it is looked at. */
import {bars, heat, load, resize, steps} from "./charts.js";

const AGAIN_MS = 30000;
const FEW = 6;
const at = (id) => document.getElementById(id);
const chosen = {entrances: 0, queues: 0, dwell: 0, heat: 0};
let shown = null;
let asked = 0;

const duration = (seconds) => (seconds === null || seconds === undefined ? "–"
  : seconds < 90 ? `${Math.round(seconds)} s`
    : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`);

async function ask(path) {
  const reply = await fetch(path, {headers: {accept: "application/json"}});
  if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
  return reply.json();
}

async function show(day) {
  const mine = (asked += 1);
  try {
    const found = await ask(`/counts/days/${encodeURIComponent(day)}`);
    await load();
    if (mine !== asked) return;
    at("counts-trouble").hidden = true;
    shown = found;
    await draw();
  } catch (error) {
    if (mine !== asked) return;
    at("counts-trouble").textContent = `The counts cannot be read: ${error.message}`;
    at("counts-trouble").hidden = false;
  }
}

async function draw() {
  const found = shown;
  const input = at("counts-day");
  input.min = found.first;
  input.max = found.today;
  input.value = found.day ?? found.today;
  at("counts-before").disabled = input.value <= input.min;
  at("counts-after").disabled = input.value >= input.max;
  at("counts-empty").hidden = !found.empty;
  at("counts-body").hidden = found.empty;
  if (found.empty) return;
  document.querySelectorAll(".counts-csv").forEach((link) => { link.href = `/counts/files/${found.day}/${link.dataset.what}.csv`; });
  tiles(found);
  entrances(found);
  occupancy(found);
  queues(found);
  dwell(found);
  await heatmaps(found);
}

function tiles(found) {
  const now = found.day === found.today;
  const rows = found.entrances.length
    ? [["In", found.totals.in], ["Out", found.totals.out], [now ? "Inside now" : "Inside at the end", found.totals.inside], ["Most inside", found.totals.most]] : [];
  found.queues.forEach((queue) => {
    rows.push([now ? `Waiting · ${queue.name}` : `Waited · ${queue.name}`, now ? queue.now.length : queue.count]);
    if (now && queue.now.length) rows.push([`Longest wait · ${queue.name}`, duration(queue.now[0])]);
  });
  at("counts-tiles").replaceChildren(...rows.map(([name, value]) => {
    const box = document.createElement("div");
    const term = document.createElement("dt");
    const number = document.createElement("dd");
    term.textContent = name;
    number.textContent = value;
    box.append(term, number);
    return box;
  }));
}

/* One button for each of a few things, a list of many; gives the one that is chosen. */
function choose(section, kind, names) {
  const tabs = section.querySelector(".counts-tabs");
  chosen[kind] = Math.min(chosen[kind], names.length - 1);
  tabs.hidden = names.length < 2;
  if (names.length > FEW) {
    const list = document.createElement("select");
    list.setAttribute("aria-label", tabs.getAttribute("aria-label"));
    list.append(...names.map((name, index) => new Option(name, index, false, index === chosen[kind])));
    list.addEventListener("change", () => {
      chosen[kind] = Number(list.value);
      draw();
    });
    tabs.replaceChildren(list);
    return chosen[kind];
  }
  tabs.replaceChildren(...names.map((name, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-pressed", String(index === chosen[kind]));
    button.addEventListener("click", () => {
      chosen[kind] = index;
      draw();
    });
    return button;
  }));
  return chosen[kind];
}

function part(id, wanted) {
  const section = at(id);
  section.hidden = !wanted;
  return wanted ? section : null;
}

function entrances(found) {
  const section = part("counts-entrances", found.entrances.length > 0);
  if (!section) return;
  const several = found.entrances.length > 1;
  const sum = (way) => found.hours.map((_, hour) => found.entrances.reduce((total, one) => total + one[way][hour], 0));
  const all = several ? [{name: "All", in: sum("in"), out: sum("out")}, ...found.entrances] : found.entrances;
  const one = all[choose(section, "entrances", all.map((each) => each.name))];
  const box = section.querySelector(".counts-chart");
  const total = (values) => values.reduce((sum_, value) => sum_ + value, 0);
  box.setAttribute("aria-label", `${one.name}: ${total(one.in)} in, ${total(one.out)} out`);
  const unseen = found.entrances.filter((each) => each.unseen_s >= 300).map((each) => `${each.name} ${duration(each.unseen_s)}`);
  at("counts-unseen").hidden = unseen.length === 0;
  at("counts-unseen").textContent = `Not watched, so that nobody was counted: ${unseen.join(", ")} of this day.`;
  bars(box, "hour", found.hours, [["in", "--good", one.in], ["out", "--going", one.out]]);
}

function occupancy(found) {
  const section = part("counts-occupancy", found.levels.inside.length > 0);
  if (!section) return;
  const box = section.querySelector(".counts-chart");
  box.setAttribute("aria-label", `At most ${found.totals.most} people inside`);
  const series = [["inside", "--accent", found.levels.inside], ["most at once", "--quiet", found.levels.most, [4, 4]]];
  if (found.totals.missed) series.push(["missed entries", "--bad", found.levels.missed.map((count) => count || null), "bars"]);
  steps(box, found, series);
  const hint = at("counts-missed");
  hint.hidden = !found.totals.missed;
  hint.textContent = `${found.totals.missed} people left a store that was counted empty: so many entries were missed before.`;
}

function queues(found) {
  const section = part("counts-queues", found.queues.length > 0);
  if (!section) return;
  const one = found.queues[choose(section, "queues", found.queues.map((each) => each.name))];
  const now = found.day === found.today && one.now.length ? `; now ${one.now.length}, the longest for ${duration(one.now[0])}` : "";
  section.querySelector(".counts-said").textContent = `${one.count} people waited: half of them ${duration(one.median)} or less, nine of ten ${duration(one.p90)} or less${now}.`;
  const box = section.querySelector(".counts-chart");
  box.setAttribute("aria-label", `Length of the line ${one.name} over the day`);
  steps(box, found, [["mean length", "--accent", one.mean], ["longest", "--quiet", one.most, [4, 4]]]);
}

function dwell(found) {
  const section = part("counts-dwell", found.dwell.length > 0);
  if (!section) return;
  const one = found.dwell[choose(section, "dwell", found.dwell.map((each) => each.name))];
  section.querySelector(".counts-said").textContent = `${one.count} stays: half of them ${duration(one.median)} or less, nine of ten ${duration(one.p90)} or less.`;
  const box = section.querySelector(".counts-chart");
  box.setAttribute("aria-label", `Stays in ${one.name} by how long they were`);
  bars(box, "stay", found.labels, [["stays", "--accent", one.bars]]);
}

async function heatmaps(found) {
  const section = part("counts-heat", found.heat.length > 0);
  if (!section) return;
  const camera = found.heat[choose(section, "heat", found.heat)];
  const map = await ask(`/counts/heat/${found.day}/${encodeURIComponent(camera)}`);
  if (found !== shown) return;
  const canvas = section.querySelector("canvas");
  canvas.setAttribute("aria-label", `Where people stood in the picture of ${camera}`);
  section.querySelector(".counts-said").textContent = `The picture of ${camera}; where the colour is strongest, people stood ${duration(map.most)} in all.`;
  heat(canvas, map);
}

function step(days) {
  const day = new Date(`${at("counts-day").value}T12:00:00Z`);
  day.setUTCDate(day.getUTCDate() + days);
  go(day.toISOString().slice(0, 10));
}

function go(day) {
  if (!day) return;
  history.replaceState(null, "", `?day=${day}`);
  show(day);
}

at("counts-pick").addEventListener("submit", (event) => event.preventDefault());
at("counts-day").addEventListener("change", (event) => go(event.target.value));
at("counts-before").addEventListener("click", () => step(-1));
at("counts-after").addEventListener("click", () => step(1));
window.addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && draw());
setInterval(() => {
  if (document.visibilityState === "visible" && shown && (shown.empty || shown.day === shown.today)) show("today");
}, AGAIN_MS);
show(new URLSearchParams(location.search).get("day") ?? "today");
