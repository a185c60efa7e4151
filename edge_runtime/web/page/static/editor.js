/* The editor: shapes drawn over the live picture, listed beside it, saved together. Words go in as text only. */
import {heard} from "/assets/live.js";
import {Canvas, place} from "/assets/shapes.js";

const root = document.querySelector(".editor");
const part = (name) => root.querySelector(`[data-${name}]`);
const [picture, svg, list, problem, save, undo, hint] =
  ["picture", "drawing", "shapes", "problem", "save", "undo", "hint"].map(part);
const at = `/zones/${encodeURIComponent(root.dataset.camera)}/drawing`;
const WORD = document.querySelector("meta[name=page-word]").content;
const KINDS = {zone: "Zone", line: "Line", mask: "Motion mask", never_look: "Never look"};
const HINTS = {
  line: "Tap where the line begins, then where it ends.",
  other: "Tap each corner; tap the first one again, or press Enter, to finish. Escape gives up.",
  idle: "Choose what to draw, or a shape to move its corners. Motion in a mask wakes no model; what stands under “never look” is painted over.",
};
const CLOSE_PX = 14;
let shapes = [], version = "", saved = "", tool = "", pending = [], selected = null, locked = "";

const canvas = new Canvas(svg, () => refresh(), (shape) => choose(shape));

function made(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
}

function read(drawing) {
  return [
    ...drawing.zones.map((zone) => ({...zone, kind: "zone", points: zone.polygon})),
    ...drawing.lines.map((line) => ({...line, kind: "line", points: [line.start, line.end]})),
    ...drawing.masks.map((points) => ({kind: "mask", name: "", points})),
    ...drawing.never_look.map((points) => ({kind: "never_look", name: "", points})),
  ];
}

function written() {
  const of = (kind) => shapes.filter((shape) => shape.kind === kind);
  return {
    zones: of("zone").map((zone) => ({was: zone.was, name: zone.name, polygon: zone.points, dwell_s: zone.dwell_s})),
    lines: of("line").map((line) => ({
      was: line.was, name: line.name, start: line.points[0], end: line.points[1], a_to_b: line.a_to_b, b_to_a: line.b_to_a,
    })),
    masks: of("mask").map((shape) => shape.points),
    never_look: of("never_look").map((shape) => shape.points),
  };
}

function refresh() {
  canvas.draw(shapes, selected, pending);
  const changed = JSON.stringify(written()) !== saved;
  save.disabled = !changed || Boolean(locked);
  undo.disabled = !changed;
  hint.textContent = locked ? `Nothing can be changed here: ${locked}.` : tool ? HINTS[tool] || HINTS.other : HINTS.idle;
  root.querySelectorAll("[data-tool]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    button.disabled = Boolean(locked);
  });
}

function field(shape, key, label, attributes = {}) {
  const id = `f${shapes.indexOf(shape)}-${key}`;
  const box = made("div", "");
  const input = made("input", "", {id, autocomplete: "off", ...attributes});
  input.value = shape[key] ?? "";
  input.addEventListener("input", () => {
    shape[key] = attributes.type === "number" ? (input.value === "" ? null : Number(input.value)) : input.value.trim();
    refresh();
  });
  box.append(made("label", label, {for: id}), input, made("p", "", {class: "bad", "data-error": key, id: `${id}-error`}));
  input.setAttribute("aria-describedby", `${id}-error`);
  return box;
}

function item(shape) {
  const line = made("li", "", {class: `card ${shape.kind}${shape === selected ? " selected" : ""}`});
  const head = made("div", "", {class: "heading"});
  const pick = made("button", shape.name ? `${KINDS[shape.kind]} ${shape.name}` : KINDS[shape.kind], {type: "button", class: "quiet", "aria-expanded": String(shape === selected)});
  pick.addEventListener("click", () => choose(shape === selected ? null : shape));
  const drop = made("button", "Delete", {type: "button", class: "quiet", "aria-label": `Delete ${KINDS[shape.kind]} ${shape.name}`});
  drop.disabled = Boolean(locked);
  drop.addEventListener("click", () => {
    shapes = shapes.filter((each) => each !== shape);
    choose(null);
  });
  head.append(pick, drop);
  line.append(head, made("p", "", {class: "bad", "data-error": "shape"}));
  if (shape === selected && shape.kind === "zone") {
    line.append(field(shape, "name", "Name"), field(shape, "dwell_s", "Say so after seconds inside", {type: "number", min: "0", step: "any"}));
  } else if (shape === selected && shape.kind === "line") {
    line.append(field(shape, "name", "Name"), field(shape, "a_to_b", "Word for the arrow’s way"), field(shape, "b_to_a", "Word for the other way"));
  }
  return line;
}

function choose(shape) {
  selected = shape;
  list.replaceChildren(...shapes.map(item));
  if (!shapes.length) list.append(made("li", "Nothing is drawn yet.", {class: "empty"}));
  refresh();
}

function begin(kind) {
  tool = tool === kind ? "" : kind;
  pending = [];
  choose(null);
}

function free(kind) {
  const names = new Set(shapes.filter((shape) => shape.kind === kind).map((shape) => shape.name));
  let number = 1;
  while (names.has(`${kind}-${number}`)) number += 1;
  return `${kind}-${number}`;
}

function finish() {
  const named = tool === "zone" || tool === "line";
  const shape = {kind: tool, name: named ? free(tool) : "", was: null, points: pending};
  if (tool === "zone") shape.dwell_s = null;
  if (tool === "line") Object.assign(shape, {a_to_b: "a_to_b", b_to_a: "b_to_a"});
  shapes.push(shape);
  [tool, pending] = ["", []];
  choose(shape);
  list.querySelector("input")?.select();
}

svg.addEventListener("pointerdown", (event) => {
  if (!tool) {
    choose(null);
    return;
  }
  event.preventDefault();
  const point = place(svg, event), box = svg.getBoundingClientRect();
  const first = pending[0];
  const back = first && Math.hypot((point[0] - first[0]) * box.width, (point[1] - first[1]) * box.height) < CLOSE_PX;
  if (back && pending.length >= 3) {
    finish();
    return;
  }
  if (back) return;
  pending.push(point);
  if (tool === "line" && pending.length === 2) finish();
  else refresh();
});
// While something is drawn, what stands there already is not picked.
svg.addEventListener("pointerdown", (event) => {
  if (!tool || event.target === svg) return;
  event.stopPropagation();
  svg.dispatchEvent(new PointerEvent("pointerdown", {clientX: event.clientX, clientY: event.clientY, bubbles: false, cancelable: true}));
}, {capture: true});

document.addEventListener("keydown", (event) => {
  if (!tool) return;
  if (event.key === "Escape") begin(tool);
  if (event.key === "Enter" && pending.length >= 3) {
    event.preventDefault();
    finish();
  }
});

root.querySelectorAll("[data-tool]").forEach((button) => button.addEventListener("click", () => begin(button.dataset.tool)));
undo.addEventListener("click", load);

function say(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

/** Show what is wrong where it is: `zones.till.polygon`, `never_look[0]`. */
function blame(places) {
  const find = (where) => {
    const [, group, rest] = /^(zones|lines|motion\.masks|never_look)[.[]([^.\]]+)/.exec(where) || [];
    if (group === "zones" || group === "lines") return shapes.find((shape) => shape.kind === group.slice(0, -1) && shape.name === rest);
    const kind = {"motion.masks": "mask", never_look: "never_look"}[group];
    return kind && shapes.filter((shape) => shape.kind === kind)[Number(rest)];
  };
  const found = places.map(({at: where, error}) => [find(where), where, error]).filter(([shape]) => shape);
  if (!found.length) return;
  choose(found[0][0]);
  found.forEach(([shape, where, error]) => {
    const line = list.children[shapes.indexOf(shape)];
    const key = where.split(".").pop();
    const spot = line.querySelector(`[data-error="${CSS.escape(key)}"]`) || line.querySelector(key === shape.name ? "[data-error=name]" : "[data-error=shape]") || line.querySelector("[data-error=shape]");
    spot.textContent = error;
    spot.parentElement.querySelector("input")?.setAttribute("aria-invalid", "true");
  });
}

function take(answer) {
  ({version, locked} = answer);
  shapes = read(answer.drawing);
  saved = JSON.stringify(written());
  choose(null);
}

async function load() {
  const answer = await fetch(at);
  heard(answer.ok, answer.status);
  const document = await answer.json();
  if (!answer.ok) {
    say(document.error);
    return;
  }
  say("");
  take(document);
}

part("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  save.disabled = true;
  try {
    const body = JSON.stringify({version, drawing: written()});
    const answer = await fetch(at, {method: "POST", body, headers: {"content-type": "application/json", "x-page-word": WORD}});
    heard(true, answer.status);
    const document = await answer.json();
    if (answer.ok) {
      say("");
      take(document);
      hint.textContent = "Saved; the camera goes on with it.";
      return;
    }
    say(document.error);
    blame(document.places || []);
  } catch (error) {
    heard(false);
  }
  refresh();
});

async function look(after) {
  if (document.hidden) {
    setTimeout(() => look(after), 500);
    return;
  }
  try {
    const answer = await fetch(`/live/pictures/${encodeURIComponent(root.dataset.camera)}?drawn=0&after=${after}`);
    heard(answer.ok, answer.status);
    if (answer.status === 200) {
      const url = URL.createObjectURL(await answer.blob());
      picture.onload = () => { URL.revokeObjectURL(url); if (!svg.childElementCount || svg.viewBox.baseVal.height < 2) refresh(); };
      picture.src = url;
      after = answer.headers.get("x-picture");
    }
    setTimeout(() => look(after), answer.ok ? 200 : 2000);
  } catch (error) {
    heard(false);
    setTimeout(() => look(after), 2000);
  }
}

new ResizeObserver(() => refresh()).observe(svg);
load();
look(0);
