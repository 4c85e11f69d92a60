// Start: open the runtime and the decoder, show the first picture, build the rest, then verify every graph.

import { block, fromBase64, gunzip, unpack } from "./bytes.js";
import { buildConditions, buildSampling, buildSliders, buildStage } from "./controls.js";
import { buildEncode } from "./encode.js";
import { Explorer, byId, fail } from "./explorer.js";
import { buildAllLabels, buildGallery } from "./gallery.js";
import { buildMap } from "./map.js";
import { Model } from "./model.js";
import { element, short } from "./paint.js";
import { buildPaths } from "./paths.js";
import { buildAddress, buildShare, openAddress } from "./share.js";

async function start() {
  const facts = JSON.parse(block("facts"));
  const model = await Model.open(facts, openRuntime(facts.runtime));
  const { manifest } = model;
  const explorer = new Explorer(model, facts);
  globalThis.explorer = explorer;
  document.title = manifest.name;
  byId("name").textContent = manifest.name;
  byId("subtitle").textContent = subtitle(manifest);
  byId("about").textContent =
    `Made with kvae ${facts.version} and onnxruntime-web ${facts.runtime.version}. The model runs in this browser and nothing leaves it. Model id ${manifest.model_id}.`;
  document.body.classList.toggle("plots", !["image", "table"].includes(manifest.data.kind));
  await openAddress(explorer);
  byId("main").hidden = false;
  await buildStage(explorer)();
  document.documentElement.dataset.firstPicture = String(Math.round(performance.now()));
  await openExamples(facts, model.latentDim);
  buildConditions(explorer);
  buildSampling(explorer);
  buildSliders(explorer);
  buildShare(explorer);
  buildAllLabels(explorer);
  buildMap(explorer);
  buildEncode(explorer);
  buildGallery(explorer);
  await buildPaths(explorer);
  buildAddress(explorer);
  addEventListener("hashchange", async () => {
    await openAddress(explorer);
    explorer.changed("z", "values", "sampling");
  });
  await verify(model);
  document.documentElement.dataset.ready = "true";
}

async function openRuntime({ address, integrity }) {
  if (!globalThis.ort) throw new Error("onnxruntime-web was not found beside this page.");
  ort.env.wasm.numThreads = 1;
  if (globalThis.kvaeRuntime) ort.env.wasm.wasmBinary = await gunzip(fromBase64(globalThis.kvaeRuntime));
  else if (address) ort.env.wasm.wasmBinary = await (await fetch(address, { integrity })).arrayBuffer();
  else ort.env.wasm.wasmBinary = await unpack("runtime");
}

/** Unpack the arrays of the examples: z_mean, and x of the first ones. */
async function openExamples(facts, latentDim) {
  const { examples } = facts;
  if (!examples.num) return;
  examples.z = new Float32Array((await unpack("examples-z")).buffer);
  const x = await unpack("examples-x");
  examples.x = examples.dtype === "uint8" ? x : new Float32Array(x.buffer);
  examples.numX = examples.numX ?? 0;
  if (examples.z.length !== examples.num * latentDim) throw new Error("The examples do not fit the model.");
}

function subtitle({ kind, latent_dim: dim, data, likelihood, conditions, training }) {
  const columns = `table of ${data.shape[0]} column${data.shape[0] === 1 ? "" : "s"}`;
  const described = data.kind === "table" ? columns : `${data.kind} ${data.shape.join(" × ")}`;
  const parts = [`${kind}, ${described}, ${dim} latent dimensions, ${likelihood.name}`];
  if (conditions.length) parts.push(`conditions: ${conditions.map(({ name }) => name).join(", ")}`);
  if (typeof training?.dataset === "string") parts.push(`trained on ${training.dataset}`);
  return parts.join(" · ");
}

/** Check seal and golden values of every graph, and show the result. */
async function verify(model) {
  byId("badge-text").textContent = "Verifying …";
  const results = [];
  for (const name of model.names) {
    try {
      results.push(await model.verify(name));
    } catch (error) {
      results.push({ name, ok: false, seal: false, checks: [], error: String(error.message ?? error) });
    }
  }
  const passed = results.filter(({ ok }) => ok).length;
  const all = passed === results.length;
  byId("badge").dataset.state = all ? "verified" : "failed";
  const seal = results.some((each) => each.seal === null) ? " (the seal needs https or a local file)" : "";
  byId("badge-text").textContent = all
    ? `✓ verified in this browser: ${passed} of ${results.length} graphs${seal}`
    : `✗ not verified: ${passed} of ${results.length} graphs reproduce their reference outputs`;
  const head = ["Graph", "Seal", "Output", "Difference", "Allowed"].map((text) => element("th", { scope: "col" }, text));
  const rows = results.flatMap(({ name, seal: sealed, checks, error }) =>
    (checks.length ? checks : [{ name: error ?? "no golden values" }]).map((check) =>
      [name, sealed === null ? "not checked" : sealed ? "intact" : "damaged", check.name, ...(check.ok === undefined ? ["", ""] : [short(check.difference), short(check.allowed)])]));
  byId("checks").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, String(text))))))));
}

start().catch((error) => {
  fail(error);
  byId("badge").dataset.state = "failed";
  byId("badge-text").textContent = "The model could not be opened";
});
