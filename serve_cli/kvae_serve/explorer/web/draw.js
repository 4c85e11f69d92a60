// Draws from p(x given z), as docs/format.md and `kvae sample --draw` make them. One function per likelihood.

import { featureBlocks } from "./features.js";
import { normalWords, normals, uniform } from "./noise.js";

const TINY = 1e-30; // smallest probability whose logit is used

/** Return whether this page can draw from the likelihood of a model. */
export function canDraw(model) {
  const { name } = model.manifest.likelihood;
  return name in DRAWS && (name !== "mixed_autoregressive" || model.has("columns"));
}

/** Return the number of random words of one example. */
export function drawWords({ likelihood }, size) {
  if (likelihood.name === "gaussian") return normalWords(size);
  if (likelihood.name === "mixed_autoregressive") return normalWords(size) + 2 * size;
  return likelihood.name === "mixed" ? normalWords(size) + ("missing" in likelihood ? 2 : 1) * size : size;
}

/** Draw x of one example from the decoder's outputs of that example, by name. `dependence` is that of `Model.dependence`. */
export function drawExample(manifest, outputs, words, dependence) {
  const size = outputs.get("x_mean").length;
  return Float32Array.from(DRAWS[manifest.likelihood.name](outputs, words, manifest, size, dependence));
}

const DRAWS = {
  bernoulli(outputs, words, { data }) {
    const [low, high] = data.range ?? [0, 1];
    return outputs.get("x_mean").map((mean, i) => (uniform(words[i]) < (mean - low) / (high - low) ? high : low));
  },
  continuous_bernoulli(outputs, words, { data }) {
    const [low, high] = data.range ?? [0, 1];
    return Array.from(outputs.get("x_logits"), (logit, i) => {
      const u = logit > 0 ? 1 - uniform(words[i]) : uniform(words[i]);
      const rate = -Math.abs(logit);
      const unit = rate === 0 ? u : Math.log1p(u * Math.expm1(rate)) / rate;
      return low + Math.min(1, Math.max(0, logit > 0 ? 1 - unit : unit)) * (high - low);
    });
  },
  gaussian(outputs, words, manifest, size) {
    return drawNormal(outputs.get("x_mean"), outputs.get("x_log_var"), normals(words, size));
  },
  discretized_logistic(outputs, words, { data }) {
    const [low, high] = data.range ?? [0, 255];
    return Array.from(outputs.get("x_location"), (location, i) => {
      const u = uniform(words[i]);
      const value = location + Math.exp(outputs.get("x_log_scale")[i]) * (Math.log(u) - Math.log1p(-u));
      return Math.min(high, Math.max(low, roundHalfEven(value)));
    });
  },
  categorical(outputs, words, manifest, size) {
    const probability = outputs.get("x_probability");
    const num = probability.length / size;
    return Array.from({ length: size }, (_, i) => pick(probability.subarray(i * num, (i + 1) * num), uniform(words[i])));
  },
  mixed(outputs, words, { data, likelihood }, size) {
    const split = normalWords(size);
    const normal = normals(words.slice(0, split), size);
    const logVar = outputs.get("x_log_var");
    const x = logVar ? drawNormal(outputs.get("x_mean"), logVar, normal) : Array.from(outputs.get("x_mean"));
    const scores = outputs.has("x_score") ? drawNormal(outputs.get("x_score"), logVar, normal) : null;
    const missing = outputs.get(likelihood.missing);
    return data.columns.map((column, i) => {
      if (missing && uniform(words[split + size + i]) < missing[i]) return NaN;
      const name = likelihood.probabilities[i];
      if (name) {
        const index = pick(outputs.get(name), uniform(words[split + i]));
        return column.atoms?.[index] ?? index;
      }
      return column.form === "quantile" ? interpolate(scores[i], column.scores, column.knots) : x[i];
    });
  },
  /** Draw each column given the columns before it, as kvae_serve/inference/mixed_autoregressive.py. */
  mixed_autoregressive(outputs, words, { data, likelihood }, size, { embedding, effect, atomScores }) {
    const { components, width } = likelihood;
    const split = normalWords(size);
    const normal = normals(words.slice(0, split), size);
    const state = new Float64Array(width);
    const blocks = featureBlocks(data.columns);
    return data.columns.map((column, i) => {
      const { first, flag } = blocks[i];
      const before = state.slice();
      const shift = (feature) => {
        let sum = 0;
        for (let k = 0; k < width; k++) sum += before[k] * effect[feature * width + k];
        return sum;
      };
      const add = (feature, residual) => {
        for (let k = 0; k < width; k++) state[k] += residual * embedding[feature * width + k];
      };
      if (flag !== null) {
        const probability = Math.max(outputs.get(likelihood.missing)[i], TINY);
        const odds = probability * Math.exp(Math.min(60, Math.max(-60, shift(flag))));
        const isMissing = uniform(words[split + size + i]) < odds / (odds + 1 - probability);
        add(flag, isMissing - outputs.get(likelihood.missing)[i]);
        if (isMissing) return NaN;
      }
      const u = uniform(words[split + i]);
      const probabilities = outputs.get(likelihood.probabilities[i]);
      if (probabilities) {
        const logits = Array.from(probabilities, (each, k) => Math.log(Math.max(each, TINY)) + shift(first + k));
        const top = logits.reduce((most, each) => Math.max(most, each));
        const index = pick(logits.map((each) => Math.exp(each - top)), u);
        probabilities.forEach((each, k) => add(first + k, (k === index) - each));
        return column.atoms?.[index] ?? index;
      }
      const [weight, mean, logVar] = ["x_weight", "x_score", "x_log_var"].map((name) =>
        Array.from({ length: components }, (_, k) => outputs.get(name)[k * size + i]));
      const chosen = pick(weight, u);
      const value = toValue(mean[chosen] + shift(first) + Math.exp(logVar[chosen] / 2) * normal[i], column);
      const expected = weight.reduce((sum, each, k) => sum + each * mean[k], 0);
      add(first, toScore(value, column, atomScores[i]) - expected);
      return value;
    });
  },
};

function drawNormal(mean, logVar, normal) {
  return Array.from(mean, (each, i) => Math.fround(each + Math.exp(logVar[i] / 2) * normal[i]));
}

function pick(probability, u) {
  const total = probability.reduce((sum, each) => sum + each, 0);
  let [cumulative, below] = [0, 0];
  for (let i = 0; i < probability.length - 1; i++) {
    cumulative += probability[i];
    if (cumulative <= u * total) below++;
  }
  return below;
}

function roundHalfEven(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest === 0.5 ? whole + (whole % 2 === 0 ? 0 : 1) : Math.round(value);
}

/** Return a number as float32 in data units of a score or standard number. */
function toValue(score, { form, scores, knots, mean = 0, scale = 1 }) {
  return Math.fround(form === "quantile" ? interpolate(score, scores, knots) : mean + scale * score);
}

/** Return the score of a drawn number, which lies between the knots. `atoms` maps each atom to its score. */
function toScore(value, { form, scores, knots, mean = 0, scale = 1 }, atoms) {
  if (form !== "quantile") return (value - mean) / scale;
  return atoms.get(value) ?? interpolate(value, knots.map(Math.fround), scores);
}

/** Return the value at x of the piecewise linear function through the points, constant beyond them. */
function interpolate(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  const above = xs.findIndex((each) => each > x);
  if (above < 0) return ys.at(-1);
  return ys[above - 1] + ((x - xs[above - 1]) * (ys[above] - ys[above - 1])) / (xs[above] - xs[above - 1]);
}
