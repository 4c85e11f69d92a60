// The picture, the conditions, seed and temperature, and a slider per latent dimension.

import { byId } from "./explorer.js";
import { element, short } from "./paint.js";

const MOST_BUTTONS = 30;

/** Build the large picture, which follows the point or the preview under the pointer. */
export function buildStage(explorer) {
  const { model, painter } = explorer;
  const stage = byId("stage");
  const canvas = element("canvas", { className: painter.isImage ? "picture" : "", role: "img" });
  if (painter.isImage) canvas.style.setProperty("--shape", `${painter.width} / ${painter.height}`);
  if (!painter.isTable) stage.append(canvas);
  // A small copy in the corner while the large picture is scrolled out of sight.
  const mini = element("canvas", { id: "mini", className: canvas.className, "aria-hidden": "true", hidden: true });
  document.body.append(mini);
  const copy = () => {
    [mini.width, mini.height] = [canvas.width, canvas.height];
    mini.getContext("2d").drawImage(canvas, 0, 0);
  };
  new IntersectionObserver(([{ isIntersecting }]) => {
    mini.hidden = isIntersecting || painter.isTable;
    if (!mini.hidden) copy();
  }).observe(stage);
  return explorer.view(["z", "values", "preview"], async () => {
    const preview = explorer.preview;
    const z = preview?.z ?? (await explorer.toZ());
    const outputs = await model.decode(z, explorer.values);
    const x = outputs.get("x_mean");
    if (painter.isTable) stage.replaceChildren(painter.record(outputs));
    else painter.canvas(canvas, x, { width: 380, height: 250, axes: true });
    if (!mini.hidden) copy();
    explorer.x = x;
    const origin = preview ? preview.text : explorer.index === null ? "chosen point" : `sample ${explorer.index} of seed ${explorer.seed}`;
    const text = [explorer.valueText(), origin].filter(Boolean).join(" · ");
    if (byId("caption").textContent !== text) byId("caption").textContent = text;
    canvas.setAttribute("aria-label", `Generated ${painter.kind}: ${text}`);
  });
}

/** Build one group of buttons, a list, or a slider for each condition. */
export function buildConditions(explorer) {
  const refreshers = explorer.model.conditions.map((condition, i) => {
    const { name, kind, classes, range } = condition;
    const group = element("fieldset", {}, element("legend", {}, name));
    byId("conditions").append(group);
    if (kind !== "categorical") return slider(explorer, group, i, name, range);
    if (classes.length > MOST_BUTTONS) {
      const select = element("select", { "aria-label": name, onchange: () => explorer.setValue(i, select.selectedIndex) });
      select.append(...classes.map((text) => element("option", {}, text)));
      group.append(select);
      return () => (select.selectedIndex = explorer.values[i]);
    }
    const choices = element("div", { className: `choices${classes.length > 5 && classes.every((each) => each.length <= 3) ? " compact" : ""}` });
    const inputs = classes.map((text, index) => {
      const input = element("input", { type: "radio", name: `condition-${i}`, onchange: () => explorer.setValue(i, index) });
      choices.append(element("label", {}, input, element("span", {}, text)));
      return input;
    });
    group.append(choices);
    return () => (inputs[explorer.values[i]].checked = true);
  });
  explorer.view(["values"], () => refreshers.forEach((refresh) => refresh()))();
}

function slider(explorer, group, i, name, range) {
  const output = element("output", {});
  const step = range ? (range[1] - range[0]) / 200 : "any";
  const input = element("input", range
    ? { type: "range", min: range[0], max: range[1], step, "aria-label": name }
    : { type: "number", step, "aria-label": name });
  input.addEventListener("input", () => Number.isFinite(input.valueAsNumber) && explorer.setValue(i, input.valueAsNumber));
  group.firstChild.append(" ", output);
  group.append(input);
  return () => {
    if (document.activeElement !== input || range) input.value = explorer.values[i];
    output.textContent = range ? short(explorer.values[i]) : "";
  };
}

/** Build seed, temperature and the buttons beside them. */
export function buildSampling(explorer) {
  const [seed, temperature] = [byId("seed"), byId("temperature")];
  seed.addEventListener("change", () => {
    if (/^[0-9]{1,20}$/.test(seed.value.trim()) && BigInt(seed.value) < 2n ** 64n) {
      explorer.setSampling({ seed: String(BigInt(seed.value)), index: explorer.index ?? 0 });
    } else seed.value = explorer.seed;
  });
  temperature.addEventListener("input", () => explorer.setSampling({ temperature: temperature.valueAsNumber }));
  byId("new-seed").addEventListener("click", () => explorer.newSeed());
  byId("centre").addEventListener("click", () => explorer.moveTo(explorer.u.map(() => 0)));
  explorer.view(["sampling"], () => {
    if (seed.value !== explorer.seed) seed.value = explorer.seed;
    temperature.value = explorer.temperature;
    byId("temperature-value").textContent = short(explorer.temperature);
  })();
}

/** Build a slider per latent dimension, the most active first; the inactive ones are folded. */
export function buildSliders(explorer) {
  const { order, activity, unit, active } = explorer.facts.latent;
  const inputs = new Map();
  const top = Math.max(...activity, 1e-12);
  const add = (container, d) => {
    const input = element("input", { type: "range", min: -4, max: 4, step: 0.01, id: `z${d}`, "aria-label": `Dimension ${d}` });
    const output = element("output", { htmlFor: `z${d}` });
    input.addEventListener("input", () => explorer.moveDimension(d, input.valueAsNumber));
    const bar = element("span", {});
    bar.style.width = `${(100 * activity[d]) / top}%`;
    container.append(element("div", { className: "slider", title: `${short(activity[d])} ${unit}` },
      element("label", { htmlFor: `z${d}` }, `z ${d}`), input, output,
      element("div", { className: "activity", "aria-hidden": "true" }, bar)));
    inputs.set(d, [input, output]);
  };
  const refresh = explorer.view(["z"], () => {
    for (const [d, [input, output]] of inputs) {
      if (input.valueAsNumber !== explorer.u[d]) input.value = explorer.u[d];
      output.textContent = explorer.u[d].toFixed(2);
    }
  });
  order.slice(0, active).forEach((d) => add(byId("sliders"), d));
  const folded = byId("inactive");
  if (active < order.length) {
    const num = order.length - active;
    folded.hidden = false;
    folded.querySelector("summary").textContent = `${num} inactive ${num > 1 ? "dimensions" : "dimension"}`;
    folded.addEventListener("toggle", () => {
      order.slice(active).forEach((d) => add(folded.lastElementChild, d));
      refresh();
    }, { once: true });
  }
  byId("latent-help").textContent =
    `In standard deviations of the prior. The most active first, by ${unit}.`;
  refresh();
}
