// The map: a plane through the latent space, with examples, the manifold, and the posterior of the input.

import { byId } from "./explorer.js";
import { VIRIDIS, colour, element, scaleColour, short } from "./paint.js";

const GRID_MILLISECONDS = 250;
const NEAR = 8;
const ZOOM = { lowest: 0.5, highest: 40, step: 1.25 };

export function buildMap(explorer) {
  const { model, painter, facts } = explorer;
  const dim = model.latentDim;
  const examples = facts.examples;
  const canvas = byId("map");
  const axes = [
    ...(facts.components ?? []).map((vector, i) => ({ name: `PC ${i + 1}`, vector })),
    ...facts.latent.order.map((d) => ({ name: `z ${d}`, vector: Array.from({ length: dim }, (_, i) => Number(i === d)) })),
  ];
  const selects = [byId("axis-x"), byId("axis-y")];
  selects.forEach((select, i) => {
    select.append(...axes.map(({ name }) => element("option", {}, name)));
    select.selectedIndex = Math.min(i, axes.length - 1);
  });
  const colourBy = byId("colour-by");
  colourBy.append(...examples.columns.map(({ name }) => element("option", {}, name)));
  byId("colour-by-label").hidden = examples.columns.length < 2;
  byId("manifold").parentElement.hidden = painter.isTable;
  byId("map-help").textContent =
    `${examples.num ? "Points are examples. Click one to encode it. " : ""}Move the pointer to decode, press or drag to stay there. After a press, or with Ctrl, the wheel zooms. Keys: arrows, Shift for larger steps; + and - zoom, 0 shows all.`;

  let plane = null; // basis, its pseudo-inverse, centre, half width, coordinates of the examples
  let view = { zoom: 1, offset: [0, 0] }; // relative to the whole map
  let grid = null; // the manifold on a canvas, with the part of the plane that it shows
  let gridRest = null; // the point off the plane for which it was painted
  let pointer = null;

  const project = (z) => plane.basis.map((vector) => vector.reduce((sum, each, d) => sum + each * z[d], 0));
  const lift = (z, target) => {
    const here = project(z);
    const by = [0, 1].map((i) => plane.inverse[i][0] * (target[0] - here[0]) + plane.inverse[i][1] * (target[1] - here[1]));
    return Float32Array.from(z, (each, d) => each + plane.basis[0][d] * by[0] + plane.basis[1][d] * by[1]);
  };
  const toPixel = ([x, y]) => {
    const scale = canvas.clientWidth / (2 * plane.half);
    return [(x - plane.centre[0] + plane.half) * scale, (plane.centre[1] + plane.half - y) * scale];
  };
  const toPlane = ([x, y]) => {
    const scale = (2 * plane.half) / canvas.clientWidth;
    return [plane.centre[0] - plane.half + x * scale, plane.centre[1] + plane.half - y * scale];
  };

  async function choosePlane() {
    const basis = selects.map((select) => axes[select.selectedIndex].vector);
    const dot = (a, b) => a.reduce((sum, each, d) => sum + each * b[d], 0);
    const [a, b, c] = [dot(basis[0], basis[0]), dot(basis[0], basis[1]), dot(basis[1], basis[1])];
    const determinant = a * c - b * b;
    const inverse = determinant > 1e-9
      ? [[c / determinant, -b / determinant], [-b / determinant, a / determinant]]
      : [[1 / a, 0], [0, 0]];
    const { mean, sd } = await model.prior(explorer.values);
    plane = { basis, inverse };
    plane.home = plane.centre = project(mean);
    plane.examples = Array.from({ length: examples.num }, (_, i) => project(examples.z.subarray(i * dim, (i + 1) * dim)));
    const spread = basis.map((vector) => 3 * Math.sqrt(vector.reduce((sum, each, d) => sum + (each * sd[d]) ** 2, 0)));
    const away = plane.examples.flat().map((each, i) => Math.abs(each - plane.centre[i % 2])).sort((p, q) => p - q);
    plane.whole = Math.max(...spread, 1.08 * (away[Math.floor(away.length * 0.995)] ?? 0));
    applyView();
  }

  function applyView() {
    plane.half = plane.whole / view.zoom;
    plane.centre = plane.home.map((each, i) => each + view.offset[i]);
    gridRest = null;
  }

  /** Zoom so that the point below a pixel stays there. */
  function zoomAt(factor, pixel) {
    const before = toPlane(pixel);
    view.zoom = Math.min(ZOOM.highest, Math.max(ZOOM.lowest, view.zoom * factor));
    applyView();
    const after = toPlane(pixel);
    view.offset = view.offset.map((each, i) => each + before[i] - after[i]);
    showView();
  }

  function showView() {
    applyView();
    paint();
    refreshGrid();
  }

  async function paintGrid() {
    if (painter.isTable || !byId("manifold").checked) return;
    const z = await explorer.toZ();
    const rest = lift(z, plane.centre);
    const key = `${explorer.values}`;
    if (gridRest && gridRest.key === key && rest.every((each, d) => Math.abs(each - gridRest.rest[d]) < 1e-4)) return;
    gridRest = { key, rest };
    const start = performance.now();
    await model.decode(rest, explorer.values);
    const num = Math.min(15, Math.max(9, Math.floor(Math.sqrt(GRID_MILLISECONDS / (performance.now() - start + 0.2)))));
    const size = Math.ceil(1120 / num);
    const painted = element("canvas", { width: num * size, height: num * size });
    const context = painted.getContext("2d");
    context.imageSmoothingEnabled = false;
    const cell = element("canvas", {});
    for (let row = 0; row < num; row++) {
      const points = new Float32Array(num * dim);
      for (let column = 0; column < num; column++) {
        const at = [column, num - 1 - row].map((each, i) => plane.centre[i] + plane.half * ((2 * each + 1) / num - 1));
        points.set(lift(rest, at), column * dim);
      }
      const x = (await model.decode(points, explorer.values)).get("x_mean");
      for (let column = 0; column < num; column++) {
        painter.canvas(cell, x.subarray(column * painter.size, (column + 1) * painter.size), { width: size, height: size });
        const ratio = Math.min(size / cell.width, size / cell.height);
        const [width, height] = [cell.width * ratio, cell.height * ratio];
        context.drawImage(cell, column * size + (size - width) / 2, row * size + (size - height) / 2, width, height);
      }
    }
    grid = { canvas: painted, corner: [plane.centre[0] - plane.half, plane.centre[1] + plane.half], half: plane.half };
    paint();
  }

  function pointColour(i) {
    const column = examples.columns[Math.max(0, colourBy.selectedIndex)];
    if (!column) return colour(0);
    if (column.values[i] === null) return "#999";
    if (column.classes) return colour(column.values[i]);
    const [low, high] = column.extent;
    return scaleColour((column.values[i] - low) / (high - low || 1));
  }

  async function paint() {
    const z = await explorer.toZ();
    const side = canvas.clientWidth;
    if (!side || !plane) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    canvas.width = canvas.height = side * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name));
    if (grid && byId("manifold").checked && !painter.isTable) {
      if (painter.isImage) {
        context.fillStyle = "#000";
        context.fillRect(0, 0, side, side);
      }
      context.globalAlpha = examples.num ? 0.65 : 1;
      const size = (side * grid.half) / plane.half;
      context.drawImage(grid.canvas, ...toPixel(grid.corner), size, size);
      context.globalAlpha = 1;
    } else {
      context.strokeStyle = line;
      for (const each of [toPixel(plane.centre)]) {
        context.strokeRect(each[0], 0, 0, side);
        context.strokeRect(0, each[1], side, 0);
      }
    }
    plane.examples.forEach((each, i) => {
      context.fillStyle = pointColour(i);
      context.beginPath();
      context.arc(...toPixel(each), examples.num > 300 ? 2.8 : 3.6, 0, 7);
      context.fill();
      context.strokeStyle = "rgba(255,255,255,.75)";
      context.lineWidth = 0.8;
      context.stroke();
    });
    if (explorer.posterior) ellipse(context, explorer.posterior);
    const [x, y] = toPixel(project(z));
    for (const [width, stroke] of [[6, "#fff"], [3, "#d0021b"]]) {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      context.beginPath();
      context.arc(x, y, 8, 0, 7);
      context.stroke();
    }
    context.fillStyle = text;
    canvas.setAttribute("aria-valuetext", position(project(z)));
  }

  /** Draw one and two standard deviations of q(z given x), projected on the plane. */
  function ellipse(context, { mean, logVar }) {
    const variance = (i, j) => plane.basis[i].reduce((sum, each, d) => sum + each * plane.basis[j][d] * Math.exp(logVar[d]), 0);
    const [a, b, c] = [variance(0, 0), variance(0, 1), variance(1, 1)];
    const middle = (a + c) / 2;
    const apart = Math.hypot((a - c) / 2, b);
    const angle = 0.5 * Math.atan2(2 * b, a - c);
    const scale = canvas.clientWidth / (2 * plane.half);
    for (const sigmas of [1, 2]) {
      for (const [width, stroke] of [[4, "rgba(255,255,255,.8)"], [2, "#d0021b"]]) {
        context.lineWidth = width;
        context.strokeStyle = stroke;
        context.setLineDash(sigmas === 2 ? [5, 4] : []);
        context.beginPath();
        const radii = [middle + apart, middle - apart].map((each) => sigmas * scale * Math.sqrt(Math.max(each, 0)));
        context.ellipse(...toPixel(project(mean)), ...radii, -angle, 0, 7);
        context.stroke();
      }
    }
    context.setLineDash([]);
  }

  const names = () => selects.map((select) => axes[select.selectedIndex].name);
  const position = (at) => at.map((each, i) => `${names()[i]} ${each.toFixed(2)}`).join(", ");
  const nearestExample = (at) => {
    let [best, distance] = [null, NEAR];
    plane.examples.forEach((each, i) => {
      const [x, y] = toPixel(each);
      const apart = Math.hypot(x - at[0], y - at[1]);
      if (apart < distance) [best, distance] = [i, apart];
    });
    return best;
  };
  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const stay = async (at) => {
    explorer.preview = null;
    explorer.moveTo(await explorer.toU(lift(await explorer.toZ(), at)));
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointer = where(event);
    const example = nearestExample(pointer);
    if (example !== null && explorer.showExample?.(example)) return (pointer = null);
    stay(toPlane(pointer));
  });
  canvas.addEventListener("pointermove", async (event) => {
    const at = where(event);
    if (pointer) return stay(toPlane(at));
    if (event.pointerType !== "mouse" || event.buttons || !plane) return;
    const example = nearestExample(at);
    const text = example === null ? position(toPlane(at)) : exampleText(examples, example);
    explorer.preview = { z: lift(await explorer.toZ(), toPlane(at)), text };
    explorer.changed("preview");
  });
  canvas.addEventListener("pointerup", () => (pointer = null));
  canvas.addEventListener("pointercancel", () => (pointer = null));
  canvas.addEventListener("pointerleave", () => {
    explorer.preview = null;
    explorer.changed("preview");
  });
  canvas.addEventListener("wheel", (event) => {
    // The page scrolls unless the map has the focus. A pinch of a touchpad comes with Ctrl.
    if (!plane || !(event.ctrlKey || event.metaKey || document.activeElement === canvas)) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    zoomAt(Math.exp(-0.0015 * lines * event.deltaY * (event.ctrlKey ? 5 : 1)), where(event));
  }, { passive: false });
  canvas.addEventListener("keydown", async (event) => {
    const factor = { "+": ZOOM.step, "=": ZOOM.step, "-": 1 / ZOOM.step }[event.key];
    if ((factor || event.key === "0") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      if (factor) return zoomAt(factor, toPixel(project(await explorer.toZ())));
      view = { zoom: 1, offset: [0, 0] };
      return showView();
    }
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const here = project(await explorer.toZ());
    if (steps[event.key]) {
      event.preventDefault();
      const size = (event.shiftKey ? 0.2 : 0.04) * plane.half;
      await stay(here.map((each, i) => each + size * steps[event.key][i]));
    }
  });

  const legend = () => {
    const column = examples.columns[Math.max(0, colourBy.selectedIndex)];
    const scale = element("i", { className: "scale" });
    scale.style.background = `linear-gradient(90deg, ${VIRIDIS.map((each) => `rgb(${each})`)})`;
    byId("legend").replaceChildren(...(!column ? [] : column.classes
      ? column.classes.slice(0, 30).map((name, i) => {
        const dot = element("i", {});
        dot.style.background = colour(i);
        return element("span", {}, dot, name);
      })
      : [element("span", {}, `${column.name}: ${column.texts[0]}`, scale, column.texts[1])]));
  };
  colourBy.addEventListener("change", () => (legend(), paint()));
  legend();
  const refreshGrid = explorer.view(["z", "values"], paintGrid, 120);
  const replane = explorer.view(["values"], async () => {
    await choosePlane();
    await paint();
    refreshGrid();
  });
  explorer.view(["z", "posterior"], paint);
  selects.forEach((select) => select.addEventListener("change", () => {
    view = { zoom: 1, offset: [0, 0] };
    replane();
    explorer.changed("axes");
  }));
  byId("manifold").addEventListener("change", () => (paint(), refreshGrid()));
  new ResizeObserver(() => paint()).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => explorer.changed("z"));
  replane();
}

/** Return number and labels of an example. */
export function exampleText(examples, i) {
  // The columns of a table are shown by its form.
  const labels = examples.columns.filter(({ inTable }) => !inTable).map(({ name, classes, values }) => `${name} ${classes ? classes[values[i]] : short(values[i])}`);
  return [`example ${i}`, ...labels].join(", ");
}
