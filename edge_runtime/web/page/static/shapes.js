/* Shapes over a picture, as SVG: corners that a mouse, a finger or the arrow keys move. Points are fractions. */
const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.01;
const FINE = 0.002;
const MOVES = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

const clamp = (value) => Math.min(1, Math.max(0, value));
const round = (value) => Math.round(value * 1e4) / 1e4;

function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}

/** Give where a pointer is, as fractions of the drawing. */
export function place(svg, event) {
  const box = svg.getBoundingClientRect();
  return [round(clamp((event.clientX - box.left) / box.width)), round(clamp((event.clientY - box.top) / box.height))];
}

export class Canvas {
  /** `changed(shape)` is called when a corner was moved, `chosen(shape)` when one was picked. */
  constructor(svg, changed, chosen) {
    this.svg = svg;
    this.changed = changed;
    this.chosen = chosen;
    this.held = null;
    svg.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { this.held = null; });
  }

  /** Draw everything; `pending` are the corners of a shape that is being drawn. */
  draw(shapes, selected, pending) {
    const {width, height} = this.svg.getBoundingClientRect();
    this.svg.setAttribute("viewBox", `0 0 ${width || 1} ${height || 1}`);
    this.scale = [width, height];
    const focused = document.activeElement?.dataset?.corner;
    this.svg.replaceChildren();
    shapes.forEach((shape, number) => this.#shape(shape, number, shape === selected));
    if (pending.length) {
      this.svg.append(node("polyline", {class: "pending", points: this.#points(pending)}));
      pending.forEach((point) => this.svg.append(this.#dot(point, "pending")));
    }
    if (focused) this.svg.querySelector(`[data-corner="${focused}"]`)?.focus();
  }

  #points(points) {
    return points.map(([x, y]) => `${x * this.scale[0]},${y * this.scale[1]}`).join(" ");
  }

  #dot([x, y], kind) {
    return node("circle", {class: kind, cx: x * this.scale[0], cy: y * this.scale[1], r: 7});
  }

  #shape(shape, number, selected) {
    const line = shape.kind === "line";
    const group = node("g", {class: `shape ${shape.kind}${selected ? " selected" : ""}`});
    group.append(node(line ? "polyline" : "polygon", {points: this.#points(shape.points)}));
    if (line) group.append(node("polyline", {class: "arrow", points: this.#arrow(shape.points)}));
    group.addEventListener("pointerdown", (event) => { event.stopPropagation(); this.chosen(shape); });
    const [x, y] = shape.points.reduce((top, point) => (point[1] < top[1] ? point : top));
    const label = node("text", {x: x * this.scale[0] + 10, y: Math.max(18, y * this.scale[1] - 8)});
    label.textContent = shape.name;
    if (shape.name) group.append(label);
    if (selected) shape.points.forEach((point, corner) => group.append(this.#handle(shape, number, point, corner)));
    this.svg.append(group);
  }

  /** From the middle of a line towards the side that `a_to_b` leads to: its right. */
  #arrow([[x1, y1], [x2, y2]]) {
    const [width, height] = this.scale;
    const [ax, ay, bx, by] = [x1 * width, y1 * height, x2 * width, y2 * height];
    const [mx, my, length] = [(ax + bx) / 2, (ay + by) / 2, Math.hypot(bx - ax, by - ay) || 1];
    const [ux, uy] = [(bx - ax) / length, (by - ay) / length];
    const [tx, ty] = [mx - uy * 26, my + ux * 26];
    const wing = (side) => `${tx + uy * 9 + ux * 7 * side},${ty - ux * 9 + uy * 7 * side}`;
    return `${mx},${my} ${tx},${ty} ${wing(1)} ${tx},${ty} ${wing(-1)}`;
  }

  #handle(shape, number, point, corner) {
    const dot = this.#dot(point, "handle");
    dot.setAttribute("tabindex", "0");
    dot.setAttribute("role", "button");
    dot.setAttribute("aria-label", `Corner ${corner + 1} of ${shape.name || shape.kind}: arrow keys move it`);
    dot.dataset.corner = `${number}-${corner}`;
    dot.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      event.preventDefault();
      dot.focus();
      this.svg.setPointerCapture(event.pointerId);
      this.held = [shape, corner];
    });
    dot.addEventListener("keydown", (event) => this.#key(event, shape, corner));
    return dot;
  }

  #drag(event) {
    if (!this.held) return;
    const [shape, corner] = this.held;
    shape.points[corner] = place(this.svg, event);
    this.changed(shape);
  }

  #key(event, shape, corner) {
    if (event.key === "Delete" && shape.kind !== "line" && shape.points.length > 3) {
      shape.points.splice(corner, 1);
    } else if (MOVES[event.key]) {
      const [dx, dy] = MOVES[event.key], step = event.shiftKey ? FINE : STEP, [x, y] = shape.points[corner];
      shape.points[corner] = [round(clamp(x + dx * step)), round(clamp(y + dy * step))];
    } else {
      return;
    }
    event.preventDefault();
    this.changed(shape);
  }
}
