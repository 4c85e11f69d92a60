// A model: its sealed graphs in ONNX Runtime, and what kvae computes from them.

import { unpack } from "./bytes.js";
import { drawExample, drawWords } from "./draw.js";
import { numFeatures } from "./features.js";
import { STREAM_BINARIZE, STREAM_DRAW, latentNoise, sampleWords, uniform } from "./noise.js";
import { compareGolden, goldenInputs, isMixture, openSealed } from "./sealed.js";

const LOG_2_PI = Math.log(2 * Math.PI);

export class Model {
  #graphs = new Map();
  #queue = Promise.resolve();
  #moments = new Map();
  #dependence = null;

  /** Open the model of a page: its decoder now, every other graph on first use. `runtime` is done when onnxruntime-web is ready. */
  static async open(facts, runtime) {
    const model = new Model();
    Object.assign(model, { names: facts.graphs, pieces: facts.likelihood_pieces, atomScores: facts.atom_scores, runtime });
    for (const name of ["decoder", ...model.names].filter((each, i) => i === 0 || each !== "decoder")) {
      model.#graphs.set(name, null);
    }
    model.manifest = (await model.#graph("decoder")).manifest;
    const { data } = model.manifest;
    model.size = data.shape.reduce((product, each) => product * each, 1);
    model.latentDim = model.manifest.latent_dim;
    model.conditions = model.manifest.conditions;
    return model;
  }

  has(graph) {
    return this.#graphs.has(graph);
  }

  /** Return the bytes of a sealed file. That of the likelihood is stored as its difference from the decoder's. */
  async #bytes(name) {
    const stored = await unpack(`graph-${name}`);
    if (name !== "likelihood" || !this.pieces) return stored;
    const base = await unpack("graph-decoder");
    const whole = new Uint8Array(this.pieces.reduce((sum, [, length]) => sum + length, 0));
    let [at, own] = [0, 0];
    for (const [start, length] of this.pieces) {
      whole.set(start < 0 ? stored.subarray(own, (own += length)) : base.subarray(start, start + length), at);
      at += length;
    }
    return whole;
  }

  /** Return bytes, manifest, seal and session of a graph. */
  #graph(name) {
    if (!this.#graphs.get(name)) {
      const open = async () => {
        const bytes = await this.#bytes(name);
        const sealed = await openSealed(bytes);
        if (sealed.seal === false) throw new Error(`${name}.onnx is damaged: its bytes do not match their digest.`);
        await this.runtime;
        const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
        return { ...sealed, session };
      };
      this.#graphs.set(name, open());
    }
    return this.#graphs.get(name);
  }

  /** Run a graph on arrays by input name; return Float32Arrays by output name. */
  async run(name, inputs) {
    const { session } = await this.#graph(name);
    const feeds = Object.create(null);
    const shapes = new Map([["z", [this.latentDim]], ["x", this.manifest.data.shape]]);
    for (const input of session.inputNames) {
      const values = inputs.get(input);
      const shape = shapes.get(input) ?? [];
      const dims = [values.length / shape.reduce((product, each) => product * each, 1), ...shape];
      const whole = ["component", "feature"].includes(input) || this.conditions.find((each) => each.name === input)?.kind === "categorical";
      feeds[input] = whole
        ? new ort.Tensor("int64", BigInt64Array.from(values, (value) => BigInt(value)), dims)
        : new ort.Tensor("float32", Float32Array.from(values), dims);
    }
    const task = this.#queue.then(() => session.run(feeds));
    this.#queue = task.catch(() => {});
    const outputs = await task;
    return new Map(session.outputNames.map((each) => [each, outputs[each].data]));
  }

  /** Return the conditions of `num` rows by name. Each value is one for all rows, or an array with one per row. */
  columns(values, num) {
    return this.conditions.map(({ name }, i) => [name, Array.isArray(values[i]) ? values[i] : Array(num).fill(values[i])]);
  }

  /** Decode z `[rows * latentDim]`; return all outputs by name. */
  decode(z, values) {
    return this.run("decoder", new Map([["z", z], ...this.columns(values, z.length / this.latentDim)]));
  }

  /** Encode one x; return z_mean and z_log_var. */
  async encode(x, values) {
    const outputs = await this.run("encoder", new Map([["x", x], ...this.columns(values, 1)]));
    return { mean: outputs.get("z_mean"), logVar: outputs.get("z_log_var") };
  }

  /** Return weights, means and log variances of the components of the prior, for one value of each condition. */
  async #components(values) {
    const { prior } = this.manifest;
    if (prior.name === "standard_normal") {
      return [{ logWeight: 0, mean: new Float32Array(this.latentDim), logVar: new Float32Array(this.latentDim) }];
    }
    const logWeights = isMixture(this.manifest) ? prior.log_weights : [0];
    const num = logWeights.length;
    const outputs = await this.run("prior", new Map([["component", [...logWeights.keys()]], ...this.columns(values, num)]));
    const top = Math.max(...logWeights);
    const logTotal = top + Math.log(logWeights.reduce((sum, each) => sum + Math.exp(each - top), 0));
    const row = (name, i) => outputs.get(name).slice(i * this.latentDim, (i + 1) * this.latentDim);
    return logWeights.map((each, i) => ({ logWeight: each - logTotal, mean: row("z_mean", i), logVar: row("z_log_var", i) }));
  }

  /** Return the components of the prior, and its mean and standard deviation by dimension. */
  prior(values) {
    const key = JSON.stringify(values);
    if (!this.#moments.has(key)) {
      const compute = async () => {
        const components = await this.#components(values);
        const weighted = (f) => Float64Array.from({ length: this.latentDim }, (_, d) =>
          components.reduce((sum, each) => sum + Math.exp(each.logWeight) * f(each, d), 0));
        const mean = weighted((each, d) => each.mean[d]);
        const sd = weighted((each, d) => Math.exp(each.logVar[d]) + (each.mean[d] - mean[d]) ** 2).map(Math.sqrt);
        return { components, mean, sd };
      };
      if (this.#moments.size > 500) this.#moments.clear();
      this.#moments.set(key, compute());
    }
    return this.#moments.get(key);
  }

  /** Draw z of samples `start` to `start + num - 1` of a seed, like `kvae sample`. */
  async draw(seed, start, num, values, temperature) {
    const { components } = await this.prior(values);
    const z = new Float32Array(num * this.latentDim);
    for (let row = 0; row < num; row++) {
      const noise = latentNoise(seed, BigInt(start) + BigInt(row), this.latentDim);
      let cumulative = 0;
      const chosen = components.find((each) => (cumulative += Math.exp(each.logWeight)) > noise.uniform) ?? components.at(-1);
      for (let d = 0; d < this.latentDim; d++) {
        const scaled = Math.fround(Math.fround(temperature) * noise.normals[d]);
        z[row * this.latentDim + d] = chosen.mean[d] + Math.exp(chosen.logVar[d] / 2) * scaled;
      }
    }
    return z;
  }

  /** Return embedding and effect of all features, and by column the scores of its atoms; null without columns.onnx. */
  dependence() {
    if (!this.has("columns")) return null;
    const compute = async () => {
      const features = [...Array(numFeatures(this.manifest.data.columns)).keys()];
      const vectors = await this.run("columns", new Map([["feature", features]]));
      return { ...Object.fromEntries(vectors), atomScores: this.atomScores.map((pairs) => new Map(pairs)) };
    };
    return (this.#dependence ??= compute());
  }

  /** Return x of samples of a seed: means of p(x given z), or draws from it. */
  async sample(seed, start, num, values, temperature, drawn) {
    const outputs = await this.decode(await this.draw(seed, start, num, values, temperature), values);
    if (!drawn) return outputs.get("x_mean");
    const dependence = await this.dependence();
    const x = new Float32Array(num * this.size);
    for (let row = 0; row < num; row++) {
      const own = new Map(Array.from(outputs, ([name, all]) => [name, all.subarray((row * all.length) / num, ((row + 1) * all.length) / num)]));
      const words = sampleWords(seed, STREAM_DRAW, BigInt(start) + BigInt(row), drawWords(this.manifest, this.size));
      x.set(drawExample(this.manifest, own, words, dependence), row * this.size);
    }
    return x;
  }

  /** Score one example like `kvae score`: elbo, reconstruction and kl in nats. */
  async score(x, values) {
    const { manifest } = this;
    const { num_samples: num = 16, seed = 0 } = manifest.score ?? {};
    let target = x;
    if (manifest.likelihood.name === "bernoulli") {
      const [low, high] = manifest.data.range ?? [0, 1];
      const words = sampleWords(seed, STREAM_BINARIZE, 0, this.size);
      target = Float32Array.from(x, (value, i) => (uniform(words[i]) < (value - low) / (high - low) ? high : low));
    }
    const { mean, logVar } = await this.encode(target, values);
    const { components } = await this.prior(values);
    const z = new Float32Array(num * this.latentDim);
    const repeated = new Float32Array(num * this.size);
    let kl = 0;
    for (let k = 0; k < num; k++) {
      const { normals } = latentNoise(seed, k, this.latentDim);
      repeated.set(target, k * this.size);
      let logQ = 0;
      for (let d = 0; d < this.latentDim; d++) {
        z[k * this.latentDim + d] = mean[d] + Math.exp(logVar[d] / 2) * normals[d];
        logQ -= 0.5 * (LOG_2_PI + logVar[d] + normals[d] ** 2);
      }
      if (components.length > 1) kl += (logQ - logMixture(z.subarray(k * this.latentDim, (k + 1) * this.latentDim), components)) / num;
    }
    if (components.length === 1) kl = klGaussians(mean, logVar, components[0]);
    const inputs = new Map([["x", repeated], ["z", z], ...this.columns(values, num)]);
    const logLikelihood = (await this.run("likelihood", inputs)).get("log_likelihood");
    const reconstruction = -logLikelihood.reduce((sum, each) => sum + each, 0) / num;
    return { elbo: -reconstruction - kl, reconstruction, kl };
  }

  /** Check seal and golden values of a graph, in this browser. */
  async verify(name) {
    const { manifest, seal, session } = await this.#graph(name);
    const outputs = await this.run(name, goldenInputs(manifest, session.inputNames));
    const same = manifest.model_id === this.manifest.model_id;
    const checks = compareGolden(manifest, outputs);
    return { name, seal, checks, ok: same && seal !== false && checks.length > 0 && checks.every((each) => each.ok) };
  }
}

/** Return KL(q || p) of diagonal Gaussians, in nats. */
function klGaussians(mean, logVar, p) {
  return mean.reduce((sum, each, d) => {
    const ratio = (Math.exp(logVar[d]) + (each - p.mean[d]) ** 2) / Math.exp(p.logVar[d]);
    return sum + 0.5 * (ratio - 1 + p.logVar[d] - logVar[d]);
  }, 0);
}

/** Return the log density of a mixture of diagonal Gaussians at z. */
function logMixture(z, components) {
  const logs = components.map(({ logWeight, mean, logVar }) =>
    z.reduce((sum, each, d) => sum - 0.5 * (LOG_2_PI + logVar[d] + (each - mean[d]) ** 2 / Math.exp(logVar[d])), logWeight));
  const top = Math.max(...logs);
  return top + Math.log(logs.reduce((sum, each) => sum + Math.exp(each - top), 0));
}
