// A classifier of pictures in a page: `web/` is what `edge-runtime bundle web BUNDLE web` wrote.

import { openModel } from "./web/edge-model.js";

const ENGINES = {
  async "onnxruntime-web"() {
    const ort = await import("onnxruntime-web");
    ort.env.wasm.numThreads = 1; // more need a page that is cross-origin isolated
    return ort;
  },
  async litertjs() {
    const litert = await import("@litertjs/core");
    await litert.loadLiteRt("./node_modules/@litertjs/core/wasm/");
    return litert;
  },
};
const about = document.getElementById("about");

/** Places a picture as the task says and gives the numbers of the input tensor. */
function toTensor(picture, input, spec) {
  const [height, width] = spec.layout === "nchw" ? input.shape.slice(2) : input.shape.slice(1, 3);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(${spec.pad} ${spec.pad} ${spec.pad})`;
  context.fillRect(0, 0, width, height);
  const ratios = [width / picture.width, height / picture.height];
  const ratio = spec.fit === "letterbox" ? Math.min(...ratios) : Math.max(...ratios);
  const [w, h] = spec.fit === "stretch" ? [width, height] : [picture.width * ratio, picture.height * ratio];
  const middle = spec.fit !== "letterbox" || spec.align === "center";
  context.drawImage(picture, middle ? (width - w) / 2 : 0, middle ? (height - h) / 2 : 0, w, h);
  const { data } = context.getImageData(0, 0, width, height); // RGBA
  const plain = input.dtype === "uint8";
  const values = new (plain ? Uint8Array : Float32Array)(height * width * 3);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = data[4 * pixel + (spec.colour === "bgr" ? 2 - channel : channel)];
      const place = spec.layout === "nchw" ? channel * height * width + pixel : 3 * pixel + channel;
      values[place] = plain ? value : (value * spec.scale - spec.mean[channel]) / spec.std[channel];
    }
  }
  return values;
}

function activate(values, activation) {
  if (activation === "none") return values;
  if (activation === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-value)));
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

async function show(model, picture) {
  const { task, inputs, outputs } = model.manifest;
  const view = document.getElementById("view");
  [view.width, view.height] = [picture.width, picture.height];
  view.getContext("2d").drawImage(picture, 0, 0);
  const tensor = toTensor(picture, inputs[0], task.input);
  const began = performance.now();
  const answers = await model.run({ [inputs[0].name]: tensor });
  const took = performance.now() - began;
  const scores = activate(Array.from(answers[task.output ?? outputs[0].name].array, Number), task.activation);
  const best = scores.map((score, at) => [score, task.labels[at]]).sort((a, b) => b[0] - a[0]);
  document.getElementById("answer").replaceChildren(
    ...best.slice(0, task.top_k).map(([score, label]) => {
      const row = document.createElement("li");
      const bar = Object.assign(document.createElement("meter"), { value: score });
      const number = Object.assign(document.createElement("span"), { className: "number" });
      number.textContent = `${(100 * score).toFixed(1)} %`;
      row.append(Object.assign(document.createElement("span"), { textContent: label }), bar, number);
      return row;
    }),
  );
  about.textContent = `${title(model.manifest)}, ${took.toFixed(1)} ms`;
}

function title({ name, version, variant, package: engine, backends }) {
  return `${name} ${version}, ${variant} in ${engine}, WASM ${backends.find((one) => one.name === "wasm").status}`;
}

async function main() {
  const { engine, task } = await (await fetch("./web/manifest.json")).json();
  if (task.kind !== "classification") throw new Error(`this page shows classes, the model's task is ${task.kind}`);
  const model = await openModel("./web/manifest.json", await ENGINES[engine]());
  about.textContent = title(model.manifest);
  const picker = document.getElementById("picture");
  picker.disabled = false;
  picker.addEventListener("change", async () => {
    try {
      await show(model, await createImageBitmap(picker.files[0]));
    } catch (error) {
      complain(error);
    }
  });
}

function complain(error) {
  about.className = "wrong";
  about.textContent = error.message;
}

main().catch(complain);
