/* The overview: live pictures, and numbers every two seconds. All text goes in as text, never as HTML. */
import {heard, watch} from "/assets/live.js";

const EVERY_MS = 2000;
const MIB = 2 ** 20;
const cards = new Map([...document.querySelectorAll("[data-camera]")].map((card) => [card.dataset.camera, card]));
const CAUSES = {
  sampled: "not due", still: "nothing moved", replaced: "a newer one came", late: "too old", corrupt: "damaged",
  stopped: "stopped",
};

const made = (tag, text, ...classes) => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.classList.add(...classes.filter(Boolean));
  return node;
};

function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([term, value, bad]) => [made("dt", term), made("dd", value, bad && "bad")]));
}

function tiles(list, pairs) {
  list.replaceChildren(...pairs.map(([term, value]) => {
    const tile = document.createElement("div");
    tile.append(made("dt", term), made("dd", value));
    return tile;
  }));
}

function table(box, heads, rows, none) {
  if (!rows.length) {
    box.replaceChildren(made("p", none, "empty"));
    return;
  }
  const whole = made("table", "", "stack");
  const head = whole.createTHead().insertRow();
  heads.forEach((each) => head.append(made("th", each)));
  const body = whole.createTBody();
  rows.forEach((row) => {
    const line = body.insertRow();
    row.forEach((value, column) => {
      const cell = column ? made("td", value) : made("th", value);
      cell.dataset.label = heads[column];
      line.append(cell);
    });
  });
  box.replaceChildren(whole);
}

const TONES = {online: "up", offline: "state-failed", failed: "state-failed"};

function counts(camera) {
  const zones = Object.entries(camera.occupancy).map(([zone, number]) => `${zone} ${number}`);
  const lines = Object.entries(camera.crossings).map(([line, ways]) =>
    `${line} ${Object.entries(ways).map(([word, number]) => `${word} ${number}`).join(", ")}`);
  return [...zones, ...lines].join(" · ");
}

function show(camera) {
  const card = cards.get(camera.name);
  if (!card) return;
  const state = card.querySelector("[data-state]");
  state.textContent = camera.health.length ? camera.health.join(", ") : camera.state;
  state.className = `badge ${camera.health.length ? "state-failed" : TONES[camera.state] || ""}`;
  const reason = card.querySelector("[data-reason]");
  reason.textContent = camera.reason;
  reason.hidden = !camera.reason;
  card.querySelector("[data-counts]").textContent = counts(camera);
  const lost = Object.values(camera.dropped).reduce((sum, count) => sum + count, 0);
  card.querySelector("[data-brief]").textContent =
    `${camera.fps.toFixed(1)} pictures a second · ${camera.latency_ms[0]} ms · ${lost} passed over`;
  facts(card.querySelector("[data-facts]"), [
    ["Pictures read", String(camera.decoded)],
    ["Looked at", String(camera.inferred)],
    ...Object.entries(camera.dropped).map(([cause, count]) => [`Passed over: ${CAUSES[cause] || cause}`, String(count)]),
    ["Latency", `${camera.latency_ms[0]} ms, at worst ${camera.latency_ms[1]} ms`],
    ["Model", `${camera.inference_ms} ms a picture`],
    ["Processor", `${camera.cpu_ms} ms a picture`],
    ["Decoder", camera.decoder || "not known yet"],
    ["Opened again", `${camera.reconnects} times`],
  ]);
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

function sink(each) {
  const owed = [each.waiting && `${each.waiting} waiting`, each.dropped && `${each.dropped} lost`, each.trouble];
  return [each.name, `${each.written} ${each.what}`, owed.filter(Boolean).join("; ") || "all well"];
}

function answer([at, model, version, variant, route, reason, took]) {
  return [new Date(at * 1000).toLocaleTimeString("en-GB"), model, `${version} ${variant}`.trim(), route, reason, `${took} ms`];
}

function render(status) {
  status.cameras.forEach(show);
  const machine = status.machine;
  tiles(document.getElementById("machine"), [
    ["Cores busy", machine.cpu_cores.toFixed(2)],
    ["Memory", `${Math.round(machine.rss_bytes / MIB)} MiB`],
    ["Temperature", machine.temperature_c === null ? "not told" : `${machine.temperature_c} °C`],
    ["Running for", duration(machine.uptime_s)],
    ...(machine.inside === null ? [] : [["In the store", String(machine.inside)]]),
  ]);
  document.getElementById("trouble").replaceChildren(...machine.trouble.map((each) => made("p", each, "problem")));
  table(document.getElementById("sinks"), ["Sink", "Written", "State"], status.sinks.map(sink), "Nowhere.");
  table(document.getElementById("models"), ["Name", "Model", "Variant", "Engine"],
    status.models.map(([name, bundle, variant, engine, problem]) =>
      problem ? [name, problem, "", ""] : [name, bundle, variant, engine]), "None is open.");
  document.getElementById("answering").hidden = !status.door;
  table(document.getElementById("answers"), ["Time", "Model", "Version", "Route", "Reason", "Took"],
    status.answers.map(answer), "Nobody has asked yet.");
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/live/status");
      heard(answer.ok, answer.status);
      if (answer.ok) render(await answer.json());
    } catch (error) {
      heard(false);
    }
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();
watch(new Map([...cards].map(([camera, card]) => [camera, card.querySelector("canvas")])));
