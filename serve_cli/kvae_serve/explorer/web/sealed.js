// Sealed files: seal, manifest and golden values, as docs/format.md specifies them.

import { sha256 } from "./bytes.js";
import { numFeatures } from "./features.js";
import { STREAM_GOLDEN, normalWords, normals, sampleWords, uniform } from "./noise.js";

const SEAL_BYTES = 81;
const MIXTURES = ["vamp", "gaussian_mixture"];

/** Read the manifest of a sealed file and check its seal. `seal` is true, false, or null where it cannot be checked. */
export async function openSealed(bytes) {
  const text = new TextDecoder();
  const end = bytes.length - SEAL_BYTES;
  const digest = await sha256(bytes.subarray(0, end));
  const stated = text.decode(bytes.subarray(end + 17));
  const head = text.decode(bytes.subarray(end + 4, end + 15)) === "kvae.sha256";
  return { manifest: JSON.parse(manifestText(bytes)), seal: digest === null ? null : head && digest === stated };
}

/** Return the value of the metadata entry `kvae`: field 14 of the ModelProto, with a key and a value. */
function manifestText(bytes) {
  for (const [field, value] of fields(bytes)) {
    if (field !== 14) continue;
    const entry = new Map(fields(value));
    const [key, content] = [1, 2].map((each) => new TextDecoder().decode(entry.get(each)));
    if (key === "kvae") return content;
  }
  throw new Error("The file has no manifest.");
}

/** Return number and content of every field of a protobuf message. */
function fields(bytes) {
  const found = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * shift;
      if (!(byte & 128)) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 0) found.push([tag >>> 3, varint()]);
    else {
      const size = kind === 1 ? 8 : kind === 5 ? 4 : varint();
      found.push([tag >>> 3, bytes.subarray(at, (at += size))]);
    }
  }
  return found;
}

/** Return the golden inputs of a graph by name: arrays of all rows. */
export function goldenInputs(manifest, names) {
  const { seed, num } = manifest.golden;
  const size = manifest.data.shape.reduce((product, each) => product * each, 1);
  const zWords = names.includes("z") ? normalWords(manifest.latent_dim) : 0;
  const xWords = !names.includes("x") ? 0 : manifest.data.range ? size : normalWords(size);
  const inputs = new Map(names.map((name) => [name, []]));
  for (let row = 0; row < num; row++) {
    const words = sampleWords(seed, STREAM_GOLDEN, row, zWords + xWords);
    for (const name of names) {
      const values = inputs.get(name);
      const condition = manifest.conditions.find((each) => each.name === name);
      if (name === "z") values.push(...normals(words.slice(0, zWords), manifest.latent_dim));
      else if (name === "x") goldenX(manifest, words.slice(zWords), size, row).forEach((value) => values.push(value));
      else if (name === "component") values.push(row % manifest.prior.log_weights.length);
      else if (name === "feature") values.push(row % numFeatures(manifest.data.columns));
      else if (condition.kind === "categorical") values.push(row % condition.classes.length);
      else {
        const [low, high] = condition.range ?? [0, 1];
        values.push(low + ((high - low) * (row + 1)) / (num + 1));
      }
    }
  }
  return inputs;
}

function goldenX(manifest, words, size, row) {
  const { data, likelihood } = manifest;
  let x;
  if (data.range) {
    const [low, high] = data.range;
    x = Float64Array.from(words, (word) => {
      const u = uniform(word);
      if (likelihood.name === "bernoulli") return u < 0.5 ? low : high;
      const value = low + u * (high - low);
      return ["discretized_logistic", "categorical"].includes(likelihood.name) ? Math.floor(value) : value;
    });
  } else {
    x = Float64Array.from(normals(words, size));
    if (data.scale) x = x.map((value, i) => data.mean[i % data.mean.length] + data.scale[i % data.scale.length] * value);
  }
  (data.kind === "table" ? data.columns : []).forEach((column, i) => {
    if (column.kind === "categorical") x[i] = row % column.classes.length;
    else if ("scale" in column) x[i] = column.mean + column.scale * x[i];
  });
  return x;
}

/** Compare outputs with the golden values: for each output its largest difference beyond the tolerance. */
export function compareGolden(manifest, outputs) {
  return Object.entries(manifest.golden.outputs).map(([name, want]) => {
    const got = outputs.get(name) ?? [];
    let [ok, difference, allowed] = [want.values.length > 0, 0, want.atol];
    want.values.forEach((value, i) => {
      const tolerance = want.atol + want.rtol * Math.abs(value);
      const apart = Math.abs(got[i * want.stride] - value);
      if (!(apart <= tolerance)) ok = false;
      if (!(apart - tolerance <= difference - allowed) || i === 0) [difference, allowed] = [apart, tolerance];
    });
    return { name, ok, difference, allowed };
  });
}

/** Return whether the prior of a manifest is a mixture. */
export function isMixture(manifest) {
  return MIXTURES.includes(manifest.prior.name);
}
