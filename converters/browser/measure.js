// The page's end of `converters.browser.page`: takes one job after the other and answers it. Decides nothing.
//
// Both ways: the length of a JSON head as 4 bytes, little endian; the head; the bytes of its tensors, one after
// the other.

import { makeArray, openModel } from "./edge-model.js";

const DO = {
  async open({ engine }) {
    const runtime = await { "onnxruntime-web": loadOnnx, litertjs: loadLiteRt }[engine]();
    model = await openModel("model/manifest.json", runtime);
    return [{}, []];
  },
  async run({ shapes }, arrays) {
    const answers = Object.entries(await model.run(arrays, shapes));
    const tensors = answers.map(([name, { dtype, shape, array }]) => ({ name, dtype, shape, bytes: array.byteLength }));
    return [{ tensors }, answers.map(([, { array }]) => array)];
  },
  async time({ shapes, runs }, arrays) {
    const times_ms = [];
    for (let run = 0; run < runs; run++) {
      const began = performance.now();
      await model.run(arrays, shapes);
      times_ms.push(performance.now() - began);
    }
    return [{ times_ms }, []];
  },
};
let model = null;

async function loadOnnx() {
  const ort = await import("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("npm/onnxruntime-web/dist/", document.baseURI).href;
  ort.env.logLevel = "error";
  return ort;
}

async function loadLiteRt() {
  const litert = await import("@litertjs/core");
  await litert.loadLiteRt(new URL("npm/@litertjs/core/wasm/", document.baseURI).href);
  return litert;
}

function unpack(content) {
  const length = new DataView(content).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
  const arrays = {};
  const shapes = {};
  let at = 4 + length;
  for (const { name, dtype, shape, bytes } of head.tensors ?? []) {
    arrays[name] = makeArray(dtype, content.slice(at, at + bytes));
    shapes[name] = shape;
    at += bytes;
  }
  return [{ ...head, shapes }, arrays];
}

function pack(head, arrays) {
  const text = new TextEncoder().encode(JSON.stringify(head));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length, true);
  return new Blob([length, text, ...arrays]);
}

async function work() {
  fetch("life"); // never answered: where this connection breaks, the page is gone
  for (;;) {
    const response = await fetch("job", { method: "POST" });
    if (!response.ok) return;
    let answer;
    try {
      const [head, arrays] = unpack(await response.arrayBuffer());
      answer = pack(...(await DO[head.do](head, arrays)));
    } catch (error) {
      answer = pack({ error: `${error?.message ?? error}`, kind: `${error?.constructor?.name}` }, []);
    }
    await fetch("answer", { method: "POST", body: answer });
  }
}

work();
