// Four corners of the reader's choice: the path from A to B, and the palette between all four.

import { byId } from "./explorer.js";
import { element } from "./paint.js";

const STEPS = 9;
const CELLS = 9;

/** Return the point at t on the great circle from a to b, as docs/walks.md describes it. */
export function slerp(a, b, t) {
  const length = (v) => Math.hypot(...v);
  const [lengthA, lengthB] = [length(a), length(b)];
  const line = () => a.map((each, d) => (1 - t) * each + t * b[d]);
  if (!(lengthA > 0 && lengthB > 0)) return line();
  const [unitA, unitB] = [a.map((each) => each / lengthA), b.map((each) => each / lengthB)];
  const angle = 2 * Math.atan2(length(unitB.map((each, d) => each - unitA[d])), length(unitB.map((each, d) => each + unitA[d])));
  if (!(Math.sin(angle) > 1e-6)) return line();
  return a.map((each, d) => (Math.sin((1 - t) * angle) * each + Math.sin(t * angle) * b[d]) / Math.sin(angle));
}

/** Build the corners, the path and the palette. */
export async function buildPaths(explorer) {
  const { model, painter } = explorer;
  const dim = model.latentDim;
  const corners = [];
  const draws = await model.draw(0, 0, 4, explorer.values, 1);
  for (let i = 0; i < 4; i++) corners.push(await explorer.toU(draws.subarray(i * dim, (i + 1) * dim)));

  const canvases = ["A", "B", "C", "D"].map((name, i) => {
    const canvas = element("canvas", { role: "img", "aria-label": `Corner ${name}` });
    const set = element("button", { type: "button", onclick: () => ((corners[i] = Float64Array.from(explorer.u)), refresh()) }, `Set ${name}`);
    const go = element("button", { type: "button", onclick: () => explorer.moveTo(corners[i]) }, `Go to ${name}`);
    byId("corners").append(element("div", { className: "corner" }, ...(painter.isTable ? [] : [canvas]), set, go));
    return canvas;
  });
  const palette = element("canvas", { id: "palette-canvas", tabIndex: 0, role: "application",
    "aria-label": "Palette between A, B, C and D. Arrow keys move the point." });
  if (!painter.isTable) byId("palette").append(palette);
  const blend = ([x, y]) => corners[0].map((_, d) =>
    (1 - y) * ((1 - x) * corners[0][d] + x * corners[1][d]) + y * ((1 - x) * corners[2][d] + x * corners[3][d]));
  const decode = async (points) => {
    const z = new Float32Array(points.length * dim);
    for (let i = 0; i < points.length; i++) z.set(await explorer.toZ(points[i]), i * dim);
    return (await model.decode(z, explorer.values)).get("x_mean");
  };
  const row = (x, i) => x.subarray(i * painter.size, (i + 1) * painter.size);

  const refresh = explorer.view(["values"], async () => {
    const ts = Array.from({ length: STEPS }, (_, i) => i / (STEPS - 1));
    const path = ts.map((t) => slerp(corners[0], corners[1], t));
    painter.cells(byId("path"), await decode(path), ts.map((t) => (painter.isTable ? `t ${t}` : t === 0 ? "A" : t === 1 ? "B" : `${Math.round(t * (STEPS - 1))}/${STEPS - 1}`)), (i) => {
      byId("t").value = ts[i];
      follow();
    });
    if (painter.isTable) return;
    const x = await decode(corners);
    canvases.forEach((canvas, i) => painter.canvas(canvas, row(x, i)));
    const size = Math.ceil(840 / CELLS);
    const painted = element("canvas", { width: CELLS * size, height: CELLS * size });
    const context = painted.getContext("2d");
    context.imageSmoothingEnabled = false;
    const cell = element("canvas", {});
    for (let y = 0; y < CELLS; y++) {
      const images = await decode(Array.from({ length: CELLS }, (_, i) => blend([i / (CELLS - 1), y / (CELLS - 1)])));
      for (let i = 0; i < CELLS; i++) {
        painter.canvas(cell, row(images, i), { width: size, height: size });
        context.drawImage(cell, i * size, y * size, size, size);
      }
    }
    backdrop = painted;
    mark();
  }, 60);
  let [backdrop, at, dragging] = [null, null, false];
  const mark = () => {
    if (!backdrop) return;
    palette.width = palette.height = backdrop.width;
    const context = palette.getContext("2d");
    context.drawImage(backdrop, 0, 0);
    if (!at) return;
    for (const [width, stroke] of [[10, "#fff"], [5, "#d0021b"]]) {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      context.beginPath();
      const inner = palette.width * (1 - 1 / CELLS);
      context.arc(...at.map((each) => palette.width / (2 * CELLS) + each * inner), 18, 0, 7);
      context.stroke();
    }
  };
  const stay = (to) => {
    at = to.map((each) => Math.min(1, Math.max(0, each)));
    mark();
    explorer.moveTo(blend(at));
  };
  const where = (event) => {
    const box = palette.getBoundingClientRect();
    const side = [box.width, box.height];
    return [event.clientX - box.left, event.clientY - box.top].map((each, i) => (each / side[i] - 0.5 / CELLS) / (1 - 1 / CELLS));
  };
  palette.addEventListener("pointerdown", (event) => {
    palette.setPointerCapture(event.pointerId);
    dragging = true;
    stay(where(event));
  });
  palette.addEventListener("pointermove", (event) => dragging && stay(where(event)));
  for (const end of ["pointerup", "pointercancel"]) palette.addEventListener(end, () => (dragging = false));
  palette.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    stay((at ?? [0.5, 0.5]).map((each, i) => each + by[i] / (2 * (CELLS - 1))));
  });
  const follow = () => {
    const t = byId("t").valueAsNumber;
    byId("t-value").textContent = t.toFixed(2);
    explorer.moveTo(slerp(corners[0], corners[1], t));
  };
  byId("t").addEventListener("input", follow);
  refresh();
}
