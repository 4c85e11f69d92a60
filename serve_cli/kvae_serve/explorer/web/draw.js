// Draws from p(x given z), as docs/format.md and `kvae sample --draw` make them. One function per likelihood.

import { normalWords, normals, uniform } from "./noise.js";

/** Return whether this page can draw from the likelihood of a manifest. */
export function canDraw({ likelihood }) {
  return likelihood.name in DRAWS;
}

/** Return the number of random words of one example. */
export function drawWords({ likelihood }, size) {
  if (likelihood.name === "gaussian") return normalWords(size);
  return likelihood.name === "mixed" ? normalWords(size) + ("missing" in likelihood ? 2 : 1) * size : size;
}

/** Draw x of one example from the decoder's outputs of that example, by name. */
export function drawExample(manifest, outputs, words) {
  const size = outputs.get("x_mean").length;
  return Float32Array.from(DRAWS[manifest.likelihood.name](outputs, words, manifest, size));
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

/** Return the value at x of the piecewise linear function through the points, constant beyond them. */
function interpolate(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  const above = xs.findIndex((each) => each > x);
  if (above < 0) return ys.at(-1);
  return ys[above - 1] + ((x - xs[above - 1]) * (ys[above] - ys[above - 1])) / (xs[above] - xs[above - 1]);
}
