// The random numbers of docs/format.md: Philox4x64-10 by sample index, uniforms, Box-Muller normals.

export const STREAM_Z = 0n;
export const STREAM_DRAW = 1n;
export const STREAM_BINARIZE = 2n;
export const STREAM_GOLDEN = 3n;

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const WEYL = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/** Return the four words of one counter. */
function philoxBlock(seed, stream, counter) {
  let [c0, c1, c2, c3] = [counter & MASK, (counter >> 64n) & MASK, 0n, 0n];
  let [k0, k1] = [seed, stream];
  for (let round = 0; round < 10; round++) {
    const low = c0 * MULTIPLIERS[0];
    const high = c2 * MULTIPLIERS[1];
    [c0, c1, c2, c3] = [(high >> 64n) ^ c1 ^ k0, high & MASK, (low >> 64n) ^ c3 ^ k1, low & MASK];
    [k0, k1] = [(k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK];
  }
  return [c0, c1, c2, c3];
}

/** Return the first `perSample` words of one sample. A sample uses whole counters, and the first block is counter + 1. */
export function sampleWords(seed, stream, index, perSample) {
  const blocks = Math.ceil(perSample / 4);
  const first = BigInt(index) * BigInt(blocks) + 1n;
  const words = [];
  for (let i = 0; i < blocks; i++) words.push(...philoxBlock(BigInt(seed), stream, first + BigInt(i)));
  return words.slice(0, perSample);
}

/** Turn a word into a uniform in [0, 1): its upper 53 bits. */
export function uniform(word) {
  return Number(word >> 11n) * 2 ** -53;
}

/** Return the number of words of `dim` normals, which are computed in pairs. */
export function normalWords(dim) {
  return 2 * Math.ceil(dim / 2);
}

/** Turn `normalWords(dim)` words into `dim` normals by Box-Muller. */
export function normals(words, dim) {
  const pairs = words.length / 2;
  const result = new Float32Array(dim);
  for (let i = 0; i < pairs; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform(words[i])));
    const angle = 2 * Math.PI * uniform(words[pairs + i]);
    result[i] = radius * Math.cos(angle);
    if (pairs + i < dim) result[pairs + i] = radius * Math.sin(angle);
  }
  return result;
}

/** Return the noise of z of one sample: its normals, and the uniform that selects the component of a mixture. */
export function latentNoise(seed, index, dim) {
  const split = normalWords(dim);
  const words = sampleWords(seed, STREAM_Z, index, split + 1);
  return { normals: normals(words.slice(0, split), dim), uniform: uniform(words[split]) };
}

/** Return a random seed of at most nine digits, which is easy to type. */
export function newSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000_000);
}
