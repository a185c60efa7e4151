// Opens a model that `edge-runtime bundle web` packed: checks every file against manifest.json, then hands the
// model to the browser's engine. Draws nothing, reads no picture, and loads no engine: the page brings it.
//
//   import * as ort from "onnxruntime-web";                          // or: import * as litert from "@litertjs/core";
//   import { openModel } from "./edge-model.js";                     //     await litert.loadLiteRt(folderOfItsWasm);
//   const model = await openModel("./manifest.json", ort);
//   const { scores } = await model.run({ image: new Float32Array(3 * 224 * 224) });

const ARRAYS = {
  bool: Uint8Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
};

/** What is wrong with a model's files. */
export class IntegrityError extends Error {}

/**
 * Opens a model.
 *
 * @param manifestUrl where manifest.json is; the model's files lie beside it.
 * @param runtime the module of the manifest's `engine`, ready to use.
 * @param backend one of the manifest's `backends`; only those with the status "verified" were seen to work.
 */
export async function openModel(manifestUrl, runtime, backend = "wasm") {
  const url = new URL(manifestUrl, document.baseURI);
  const manifest = await (await answered(url)).json();
  if (manifest.schema_version !== 1) {
    throw new Error(`${url}: schema_version ${manifest.schema_version}, this loader knows 1`);
  }
  if (!manifest.backends.some((one) => one.name === backend)) {
    throw new Error(`backend ${backend}: the manifest has ${manifest.backends.map((one) => one.name).join(", ")}`);
  }
  const files = await Promise.all(manifest.files.map((file) => fetchChecked(url, file)));
  const open = { "onnxruntime-web": openOnnx, litertjs: openLiteRt }[manifest.engine];
  if (!open) throw new Error(`engine ${manifest.engine}: this loader knows onnxruntime-web and litertjs`);
  const session = await open(manifest, files, runtime, backend);
  return {
    manifest,
    /** Takes arrays by the inputs' names; `shapes` where the model leaves an axis open. */
    async run(arrays, shapes = {}) {
      const tensors = manifest.inputs.map((input) => checked(input, arrays[input.name], shapes[input.name]));
      return session.run(tensors);
    },
    close: () => session.close(),
  };
}

/** Makes the array that a tensor of this dtype takes, over bytes or of a length. */
export function makeArray(dtype, content) {
  const Kind = ARRAYS[dtype];
  if (!Kind) throw new Error(`dtype ${dtype}: expected one of ${Object.keys(ARRAYS).join(", ")}`);
  return new Kind(content);
}

async function answered(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answered ${response.status}`);
  return response;
}

async function fetchChecked(manifestUrl, file) {
  if (!globalThis.crypto?.subtle) {
    throw new IntegrityError("digests cannot be checked: serve the page over https, or from localhost");
  }
  const content = await (await answered(new URL(file.path, manifestUrl))).arrayBuffer();
  if (content.byteLength !== file.size_bytes) {
    throw new IntegrityError(`${file.path}: expected ${file.size_bytes} bytes, got ${content.byteLength}`);
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (sha256 !== file.sha256) {
    throw new IntegrityError(`${file.path}: its digest is not the manifest's. Download it again`);
  }
  return new Uint8Array(content);
}

function checked(input, array, shape = input.shape) {
  const Kind = ARRAYS[input.dtype];
  if (!(array instanceof Kind)) throw new Error(`input ${input.name}: expected a ${Kind.name}`);
  if (shape.includes(null)) throw new Error(`input ${input.name}: give the lengths of its open axes in shapes`);
  const count = shape.reduce((a, b) => a * b, 1);
  if (array.length !== count) {
    throw new Error(`input ${input.name}: expected ${count} numbers (${shape}), got ${array.length}`);
  }
  return { key: input.key, dtype: input.dtype, shape, array };
}

async function openOnnx(manifest, [model, ...data], ort, backend) {
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [backend],
    externalData: data.map((content, at) => ({ path: manifest.files[at + 1].path.split("/").at(-1), data: content })),
  });
  return {
    async run(tensors) {
      const feeds = {};
      for (const { key, dtype, shape, array } of tensors) feeds[key] = new ort.Tensor(dtype, array, shape);
      const answers = await session.run(feeds);
      const found = {};
      for (const { name, key, dtype } of manifest.outputs) {
        const tensor = answers[key];
        found[name] = { dtype, shape: [...tensor.dims], array: await tensor.getData() };
        tensor.dispose();
      }
      return found;
    },
    close: () => session.release(),
  };
}

async function openLiteRt(manifest, [content], litert, backend) {
  const model = await litert.loadAndCompile(content, { accelerator: backend });
  return {
    async run(tensors) {
      const feeds = {};
      let answers = {};
      try {
        for (const { key, shape, array } of tensors) feeds[key] = new litert.Tensor(array, shape);
        answers = await model.run(feeds);
        const found = {};
        for (const { name, key, dtype } of manifest.outputs) {
          const tensor = answers[key];
          found[name] = { dtype, shape: [...tensor.type.layout.dimensions], array: await tensor.data() };
        }
        return found;
      } finally {
        // Its tensors lie in WebAssembly's memory, which no garbage collector sees.
        for (const tensor of [...Object.values(feeds), ...Object.values(answers)]) tensor.delete();
      }
    },
    close: () => model.delete(),
  };
}
