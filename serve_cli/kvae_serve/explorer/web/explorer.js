// The state of the page: one point u of the latent space, the conditions, the seed. Views subscribe to changes.

import { newSeed } from "./noise.js";
import { Painter, short } from "./paint.js";

/** Return the element of an id. */
export const byId = (id) => document.getElementById(id);

/** Show an error to the reader. */
export function fail(error) {
  console.error(error);
  byId("failure").textContent = `Something failed: ${error.message ?? error}`;
  byId("failure").hidden = false;
}

/** Return a function that runs a task soon; calls during a run cause one more run. */
export function coalesce(task, delay = 0) {
  let [running, again] = [false, false];
  return async () => {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      await new Promise((done) => (delay ? setTimeout(done, delay) : requestAnimationFrame(done)));
      again = false;
      await Promise.resolve(task()).catch(fail);
    }
    running = false;
  };
}

export class Explorer {
  #views = [];

  /** `facts` is what the page was made with: order of the dimensions, examples, names for commands. */
  constructor(model, facts) {
    this.model = model;
    this.facts = facts;
    this.painter = new Painter(model.manifest);
    this.u = new Float64Array(model.latentDim);
    this.values = model.conditions.map(({ kind, range }) => {
      return kind === "categorical" ? 0 : range ? (range[0] + range[1]) / 2 : 0;
    });
    this.seed = "0";
    this.index = 0;
    this.temperature = 1;
    this.posterior = null;
    this.preview = null;
  }

  /** Run a view now and after every change of one of the parts. */
  view(parts, task, delay = 0) {
    const refresh = coalesce(task, delay);
    this.#views.push({ parts, refresh });
    return refresh;
  }

  /** Refresh the views of the changed parts. */
  changed(...parts) {
    for (const view of this.#views) if (view.parts.some((part) => parts.includes(part))) view.refresh();
  }

  /** Return z of a point u, in units of the prior's standard deviations from its mean. */
  async toZ(u = this.u, values = this.values) {
    const { mean, sd } = await this.model.prior(values);
    return Float32Array.from(u, (each, d) => mean[d % mean.length] + sd[d % sd.length] * each);
  }

  /** Return the point u of z. */
  async toU(z, values = this.values) {
    const { mean, sd } = await this.model.prior(values);
    return Float64Array.from(z, (each, d) => (each - mean[d]) / sd[d]);
  }

  /** Move to a point. */
  moveTo(u) {
    this.u = Float64Array.from(u);
    this.index = null;
    this.changed("z");
  }

  /** Move one dimension. */
  moveDimension(d, position) {
    this.u[d] = position;
    this.index = null;
    this.changed("z");
  }

  /** Move to a sample of the seed, as `kvae sample --seed` draws it. */
  async showSample(index) {
    const z = await this.model.draw(this.seed, index, 1, this.values, this.temperature);
    this.u = await this.toU(z);
    this.index = index;
    this.changed("z");
  }

  /** Change seed or temperature. */
  async setSampling({ seed = this.seed, temperature = this.temperature, index = this.index }) {
    Object.assign(this, { seed, temperature });
    this.changed("sampling");
    if (index !== null) await this.showSample(index);
  }

  async newSeed() {
    await this.setSampling({ seed: newSeed(), index: 0 });
  }

  /** Change the value of a condition. A sample stays the sample of its seed. */
  async setValue(i, value) {
    this.values = this.values.with(i, value);
    if (this.index !== null) await this.showSample(this.index);
    this.changed("values");
  }

  /** Return the text of the conditions. */
  valueText(values = this.values) {
    return this.model.conditions
      .map(({ name, classes }, i) => `${name} ${classes ? classes[values[i]] : short(values[i])}`)
      .join(", ");
  }
}
