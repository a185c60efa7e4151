/* Live pictures: one request at a time for all cameras that are in sight; the next goes when the last has been shown. */
const ROUND_MS = 180;
const PAUSE_MS = 2000;
const DECODER = new TextDecoder();

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function* parts(bytes) {
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(10, at);
    const head = JSON.parse(DECODER.decode(bytes.subarray(at, end)));
    at = end + 1 + head.bytes;
    yield [head, bytes.subarray(end + 1, at)];
  }
}

/** Draw a JPEG on a canvas, which takes the picture's shape. */
export async function paint(canvas, jpeg) {
  const bitmap = await createImageBitmap(new Blob([jpeg], {type: "image/jpeg"}));
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

/** Say whether the store answers; a login that has ended leads to the login. */
export function heard(ok, status = 0) {
  document.getElementById("stale").hidden = ok;
  if (status === 401) location.assign("/login");
}

/** Keep canvases up to date, by camera; only those in sight, and only while the page is. */
export async function watch(canvases) {
  const seen = new Map([...canvases.keys()].map((camera) => [camera, 0]));
  const inSight = new Set();
  const observer = new IntersectionObserver((entries) => entries.forEach((entry) => {
    const camera = [...canvases].find(([, canvas]) => canvas === entry.target)[0];
    entry.isIntersecting ? inSight.add(camera) : inSight.delete(camera);
  }));
  canvases.forEach((canvas) => observer.observe(canvas));
  for (;;) {
    const began = performance.now();
    if (document.hidden || !inSight.size) {
      await wait(ROUND_MS);
      continue;
    }
    const wanted = [...inSight].map((camera) => `${camera}:${seen.get(camera)}`).join(",");
    try {
      const answer = await fetch(`/live/round?seen=${encodeURIComponent(wanted)}`);
      heard(answer.ok, answer.status);
      if (!answer.ok) throw new Error(String(answer.status));
      for (const [head, jpeg] of parts(new Uint8Array(await answer.arrayBuffer()))) {
        seen.set(head.camera, head.number);
        await paint(canvases.get(head.camera), jpeg);
      }
    } catch (error) {
      heard(false);
      await wait(PAUSE_MS);
    }
    await wait(Math.max(0, ROUND_MS - (performance.now() - began)));
  }
}
