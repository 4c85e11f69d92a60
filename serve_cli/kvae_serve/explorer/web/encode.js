// Encoding: an input that is drawn, dropped, typed or chosen; its reconstruction; its elbo among the training data.

import { byId } from "./explorer.js";
import { exampleText } from "./map.js";
import { element, short } from "./paint.js";

const MOST_CLASSES = 30;

/** Build the panel for inputs, if the model has an encoder. */
export function buildEncode(explorer) {
  const { model, painter, facts } = explorer;
  if (!model.has("encoder")) return;
  byId("input-panel").hidden = false;
  byId("input-panel").classList.toggle("tabular", painter.isTable);
  const reconstruction = element("canvas", { className: painter.isImage ? "picture" : "", role: "img", "aria-label": "Reconstruction" });
  if (!painter.isTable) byId("reconstruction").append(reconstruction);
  if (painter.isImage) byId("input-panel").style.setProperty("--shape", `${painter.width} / ${painter.height}`);
  let move = false; // whether the point of the page follows the input

  const refresh = explorer.view(["input", "values"], async () => {
    const x = explorer.input;
    byId("input-panel").classList.toggle("empty", !x);
    const follow = move;
    move = false;
    if (!x) return clear();
    explorer.posterior = await model.encode(x, explorer.values);
    const outputs = await model.decode(explorer.posterior.mean, explorer.values);
    if (painter.isTable) byId("reconstruction").replaceChildren(painter.record(outputs));
    else painter.canvas(reconstruction, outputs.get("x_mean"), { width: 260, height: 180 });
    if (follow) explorer.moveTo(await explorer.toU(explorer.posterior.mean));
    explorer.changed("posterior");
    if (!model.has("likelihood")) return;
    const score = await model.score(x, explorer.values);
    byId("score").replaceChildren(
      "elbo ", element("b", {}, score.elbo.toFixed(1)), ` nats (reconstruction ${score.reconstruction.toFixed(1)}, kl ${score.kl.toFixed(1)}). `,
      quantileText(score.elbo, model.manifest.score));
    byId("score").dataset.elbo = score.elbo;
  });
  const clear = () => {
    explorer.posterior = null;
    explorer.changed("posterior");
    byId("score").replaceChildren();
    delete byId("score").dataset.elbo;
    if (painter.isTable) byId("reconstruction").replaceChildren();
    else reconstruction.getContext("2d").clearRect(0, 0, reconstruction.width, reconstruction.height);
  };
  const use = (x) => {
    explorer.input = x;
    move = true;
    explorer.changed("input");
  };
  const form = painter.isImage ? drawing(explorer, use) : painter.isTable ? tableForm(explorer, use) : numberForm(explorer, use);

  explorer.showExample = (i) => {
    const { examples } = facts;
    if (i >= examples.numX) return false;
    const start = i * painter.size;
    const x = Float32Array.from(examples.x.subarray(start, start + painter.size));
    model.conditions.forEach(({ name }, axis) => {
      const column = examples.columns.find((each) => each.name === name);
      if (column) explorer.values = explorer.values.with(axis, column.values[i]);
    });
    form.show(x);
    use(x);
    explorer.changed("values");
    byId("input-help").textContent = exampleText(examples, i);
    const number = byId("example");
    if (number) number.value = i;
    return true;
  };
  if (facts.examples.numX) {
    const number = element("input", { type: "number", id: "example", min: 0, max: facts.examples.numX - 1, step: 1, placeholder: "number" });
    number.addEventListener("input", () => number.value !== "" && number.validity.valid && explorer.showExample(number.valueAsNumber));
    byId("input-fields").append(element("label", {}, `Example of ${facts.examples.numX}`, number));
  }
  const tool = (text, action, properties = {}) => {
    const button = element("button", { type: "button", onclick: action, ...properties }, text);
    byId("input-tools").append(button);
    return button;
  };
  tool(painter.isTable ? "From the generated row" : "From the generated", () => {
    form.show(explorer.x);
    use(Float32Array.from(explorer.x));
  }, { id: "use-generated" });
  tool("Clear", () => {
    form.clear();
    use(null);
  });
  const [only] = model.conditions;
  if (model.conditions.length === 1 && only.classes?.length <= MOST_CLASSES && model.has("likelihood")) {
    tool(`Best ${only.name}`, async () => {
      if (!explorer.input) return;
      const elbos = [];
      for (const index of only.classes.keys()) elbos.push((await model.score(explorer.input, [index])).elbo);
      move = true;
      await explorer.setValue(0, elbos.indexOf(Math.max(...elbos)));
    }, { title: "The class with the highest elbo of the input", id: "best" });
  }
  refresh();
}

/** Return a sentence on the elbo among those of held-out or training data, from the quantiles in the manifest. */
export function quantileText(elbo, score) {
  const rows = score?.split === "validation" ? "the held-out data" : "the training data";
  const known = Object.entries(score?.quantiles ?? {}).map(([share, value]) => [Number(share), Number(value)]);
  known.sort((a, b) => a[0] - b[0]);
  if (!known.length) return "The model file has no quantiles of its data.";
  const percent = (share) => `${Number((100 * share).toPrecision(2))} %`;
  if (elbo < known[0][1]) return `Lower than ${percent(1 - known[0][0])} of ${rows}.`;
  const last = known.at(-1);
  if (elbo >= last[1]) return `Higher than ${percent(last[0])} of ${rows} or more.`;
  const above = known.findIndex(([, value]) => elbo < value);
  const [[low, from], [high, to]] = [known[above - 1], known[above]];
  const share = low * (high / low) ** ((elbo - from) / (to - from));
  return `Higher than about ${percent(Number.isFinite(share) ? share : low)} of ${rows}.`;
}

/** A canvas to draw on, to drop an image on, and to fill from an image file. */
function drawing(explorer, use) {
  const { painter } = explorer;
  const { height, width, channels } = painter;
  const [low, high] = painter.data.range ?? [0, 255];
  const canvas = element("canvas", { id: "drawing", className: "picture", width, height, tabIndex: 0, role: "application",
    "aria-label": "Drawing. Arrow keys move the brush, Space paints.", "aria-describedby": "input-help" });
  byId("input").append(canvas);
  byId("input-help").textContent = "Draw, drop an image, or choose an example. Keys: arrows move the brush, Space paints.";
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const brush = element("input", { type: "range", min: 0.5, max: Math.max(3, Math.round(width / 6)), step: 0.5, value: Math.max(1, width / 12) });
  const ink = element("input", { type: "color", value: "#ffffff", "aria-label": "Colour" });
  const eraser = element("input", { type: "checkbox" });
  const file = element("input", { type: "file", accept: "image/*", "aria-label": "Image file" });
  const invert = element("input", { type: "checkbox" });
  byId("input-fields").append(
    element("label", { className: "grow" }, "Brush", brush),
    ...(channels >= 3 ? [element("label", {}, "Colour", ink)] : []),
    element("label", { className: "check" }, eraser, "Erase"),
    element("label", { className: "grow" }, "Image file", file),
    element("label", { className: "check" }, invert, "Invert"));
  let [last, cursor] = [null, [width / 2, height / 2]];

  const clear = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
  };
  const read = () => {
    const pixels = context.getImageData(0, 0, width, height).data;
    return Float32Array.from({ length: painter.size }, (_, i) => {
      const at = 4 * Math.floor(i / channels);
      const value = channels >= 3 ? pixels[at + (i % channels)] : 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
      const scaled = low + ((high - low) * value) / 255;
      return high - low >= 2 ? Math.round(scaled) : scaled;
    });
  };
  const stroke = (from, to) => {
    context.strokeStyle = eraser.checked ? "#000" : channels >= 3 ? ink.value : "#fff";
    context.lineWidth = brush.valueAsNumber;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.001, to[1]);
    context.stroke();
    use(read());
  };
  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = where(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const to = where(event);
    stroke(last, to);
    last = to;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key];
    if (!by) return;
    event.preventDefault();
    const before = cursor;
    cursor = cursor.map((each, i) => Math.min([width, height][i] - 0.5, Math.max(0.5, each + by[i])));
    if (event.key === " " || event.shiftKey) stroke(event.key === " " ? cursor : before, cursor);
  });
  const load = async (blob) => {
    if (!blob?.type.startsWith("image/")) return;
    const bitmap = await createImageBitmap(blob);
    const scale = Math.max(width / bitmap.width, height / bitmap.height);
    const [w, h] = [bitmap.width * scale, bitmap.height * scale];
    clear();
    context.filter = invert.checked ? "invert(1)" : "none";
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
    context.filter = "none";
    use(read());
  };
  file.addEventListener("change", () => load(file.files[0]));
  invert.addEventListener("change", () => {
    context.globalCompositeOperation = "difference";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-over";
    use(read());
  });
  const panel = byId("input-panel");
  panel.addEventListener("dragover", (event) => {
    event.preventDefault();
    panel.classList.add("dropping");
  });
  for (const end of ["dragleave", "drop"]) panel.addEventListener(end, () => panel.classList.remove("dropping"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    load(event.dataTransfer.files[0]);
  });
  clear();
  return { clear, show: (x) => context.putImageData(painter.imageData(x), 0, 0) };
}

/** A form with a field per column of a table: a list of classes, a date, or a number. An empty number is missing. */
function tableForm(explorer, use) {
  const { painter } = explorer;
  byId("input-help").textContent = "Fill in a row, or choose an example.";
  const form = element("div", { className: "form" });
  byId("input").append(form);
  const fields = painter.columnNames().map((name, i) => {
    const column = painter.data.columns[i] ?? {};
    const offset = column.offset ?? 0;
    const outcomes = painter.outcomes(i);
    const clock = column.format && /%-?[HIMSf]/.test(column.format);
    const input = outcomes
      ? element("select", {}, ...outcomes.map((text, index) => element("option", { value: String(column.atoms?.[index] ?? index) }, String(text))))
      : element("input", { type: column.format ? (clock ? "datetime-local" : "date") : "number", step: column.format ? "1" : "any" });
    if (outcomes && column.atoms && "missing" in column) input.prepend(element("option", { value: "" }, "missing"));
    if (!outcomes && "missing" in column) input.placeholder = "missing";
    input.id = `column-${i}`;
    form.append(element("label", { htmlFor: input.id }, name), input);
    input.addEventListener("input", () => {
      const x = Float32Array.from(fields, (each) => each.read());
      const fits = x.every((value, index) => Number.isFinite(value) || "missing" in (painter.data.columns[index] ?? {}));
      if (fits) use(x);
    });
    const read = () => {
      if (input.value === "") return NaN;
      if (outcomes) return Number(input.value);
      return (column.format ? input.valueAsNumber / 1000 : Number(input.value)) - offset;
    };
    const write = (value) => {
      if (Number.isNaN(value)) input.value = "";
      else if (column.format) input.valueAsNumber = Math.round(value + offset) * 1000;
      else if (outcomes && column.atoms) input.value = String(nearest(column.atoms, value));
      else if (outcomes) input.value = String(Math.round(value));
      else input.value = String(Number.isInteger(column.decimals) ? Number((value + offset).toFixed(Math.min(column.decimals, 20))) : Number((value + offset).toPrecision(7)));
    };
    return { read, write };
  });
  const show = (x) => fields.forEach(({ write }, i) => write(x[i]));
  const start = () => show(painter.columnNames().map((_, i) => {
    const { mean, knots, atoms } = painter.data.columns[i] ?? {};
    return mean ?? knots?.[knots.length >> 1] ?? atoms?.[0] ?? 0;
  }));
  start();
  return { show, clear: start };
}

function nearest(values, value) {
  return values.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best));
}

/** A text of numbers and its plot, for sequences and vectors. */
function numberForm(explorer, use) {
  const { painter } = explorer;
  const canvas = element("canvas", { role: "img", "aria-label": "Input" });
  const text = element("textarea", { "aria-label": "Values of the input", spellcheck: false, placeholder: `${painter.size} numbers` });
  byId("input").append(canvas);
  byId("input-fields").append(element("label", { className: "grow" }, "Values, separated by spaces, commas or lines", text));
  byId("input-help").textContent = "Paste numbers, or choose an example.";
  const plot = (x) => painter.canvas(canvas, x, { width: 260, height: 180 });
  text.addEventListener("input", () => {
    const x = Float32Array.from(text.value.split(/[\s,;]+/).filter(Boolean), Number);
    const fits = x.length === painter.size && x.every(Number.isFinite);
    byId("input-help").textContent = fits ? "" : `${x.length} of ${painter.size} numbers.`;
    if (!fits) return;
    plot(x);
    use(x);
  });
  return {
    show: (x) => {
      plot(x);
      text.value = Array.from(x, (value) => Number(value.toPrecision(5))).join(" ");
    },
    clear: () => {
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
      text.value = "";
    },
  };
}
