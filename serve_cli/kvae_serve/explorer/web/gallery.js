// The gallery of a seed, and the picture of every label for one z.

import { canDraw } from "./draw.js";
import { byId } from "./explorer.js";
import { element } from "./paint.js";

export const GALLERY = 16;
/** Return whether `kvae sample` draws from p(x given z) by default: all but pixels. */
export const drawnByDefault = ({ kind, data }) => ["table", "sequence"].includes(kind) || Boolean(data.scale);
const MOST_LABELS = 60;

/** Build the gallery: samples of the seed, equal to those of `kvae sample --seed`. */
export function buildGallery(explorer) {
  const { model, painter } = explorer;
  let start = 0;
  const drawn = byId("drawn");
  // Measurements are drawn by default, as in kvae sample: a mean is not a likely row.
  drawn.checked = canDraw(model) && drawnByDefault(painter);
  drawn.parentElement.hidden = !canDraw(model);
  drawn.addEventListener("change", () => refresh());
  const refresh = explorer.view(["sampling", "values"], async () => {
    const x = await model.sample(explorer.seed, start, GALLERY, explorer.values, explorer.temperature, drawn.checked);
    const captions = Array.from({ length: GALLERY }, (_, i) => String(start + i));
    painter.cells(byId("gallery"), x, captions, (i) => explorer.showSample(start + i));
    const defaults = drawn.checked === drawnByDefault(painter);
    byId("gallery-help").textContent = `Samples ${start} to ${start + GALLERY - 1} of seed ${explorer.seed}, equal to those of kvae sample${defaults ? "" : drawn.checked ? " --draw" : " --mean"}.`;
    byId("gallery-previous").disabled = start === 0;
    byId("gallery").dataset.shown = `${explorer.seed} ${start} ${explorer.values} ${explorer.temperature}${drawn.checked ? " drawn" : ""}`;
  });
  const turn = (by) => {
    start = Math.max(0, start + by);
    refresh();
  };
  byId("gallery-previous").addEventListener("click", () => turn(-GALLERY));
  byId("gallery-next").addEventListener("click", () => turn(GALLERY));
  refresh();
}

/** Build the view of all labels: the same z under each class of a condition. */
export function buildAllLabels(explorer) {
  const { model, painter } = explorer;
  const indices = model.conditions.flatMap(({ kind }, i) => (kind === "categorical" ? [i] : []));
  if (!indices.length) return;
  byId("all-panel").hidden = false;
  const select = byId("all-by");
  select.append(...indices.map((i) => element("option", {}, model.conditions[i].name)));
  byId("all-by-label").hidden = indices.length < 2;
  const refresh = explorer.view(["z", "values"], async () => {
    const axis = indices[select.selectedIndex];
    const classes = model.conditions[axis].classes.slice(0, MOST_LABELS);
    const z = new Float32Array(classes.length * model.latentDim);
    for (let i = 0; i < classes.length; i++) {
      z.set(await explorer.toZ(explorer.u, explorer.values.with(axis, i)), i * model.latentDim);
    }
    const x = (await model.decode(z, explorer.values.with(axis, [...classes.keys()]))).get("x_mean");
    painter.cells(byId("all"), x, classes, (i) => explorer.setValue(axis, i));
    [...byId("all").querySelectorAll("button")].forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === explorer.values[axis]));
    });
  });
  select.addEventListener("change", refresh);
  refresh();
}
