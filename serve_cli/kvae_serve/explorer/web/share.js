// The state as an address, as a command, as Python and as a PNG.

import { byId } from "./explorer.js";
import { drawnByDefault } from "./gallery.js";

/** Keep the state in the address of the page. */
export function buildAddress(explorer) {
  explorer.view(["z", "values", "sampling"], () => {
    try {
      history.replaceState(null, "", `#${address(explorer)}`);
    } catch (error) {
      console.warn(error); // Browsers limit how often the address may change.
    }
  }, 400);
}

function address({ u, values, seed, index, temperature }) {
  const parts = new URLSearchParams();
  parts.set("seed", seed);
  if (index !== null) parts.set("sample", String(index));
  else parts.set("u", Array.from(u, (each) => Number(each.toFixed(4))).join(" "));
  if (values.length) parts.set("conditions", values.join(" "));
  if (temperature !== 1) parts.set("temperature", String(temperature));
  return parts.toString();
}

/** Set the state from the address; parts that do not fit the model are ignored. */
export async function openAddress(explorer) {
  const parts = new URLSearchParams(location.hash.slice(1));
  const numbers = (name) => (parts.get(name) ?? "").split(" ").filter(Boolean).map(Number);
  const conditions = numbers("conditions");
  const fits = conditions.length === explorer.values.length && explorer.model.conditions.every(({ classes }, i) =>
    classes ? Number.isInteger(conditions[i]) && conditions[i] >= 0 && conditions[i] < classes.length : Number.isFinite(conditions[i]));
  if (fits) explorer.values = conditions;
  const seed = parts.get("seed") ?? "0";
  if (/^[0-9]{1,20}$/.test(seed) && BigInt(seed) < 2n ** 64n) explorer.seed = seed;
  const temperature = Number(parts.get("temperature") ?? 1);
  if (temperature >= 0 && temperature <= 2) explorer.temperature = temperature;
  const u = numbers("u");
  if (u.length === explorer.u.length && u.every(Number.isFinite)) {
    explorer.u = Float64Array.from(u);
    explorer.index = null;
  } else {
    const sample = Number(parts.get("sample") ?? 0);
    await explorer.showSample(Number.isSafeInteger(sample) && sample >= 0 ? sample : 0);
  }
}

/** Quote a text for a POSIX shell. */
function quote(text) {
  return /^[\w./:=,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Return z as text with the digits of float32. */
function digits(z) {
  return Array.from(z, (each) => String(Number(each.toPrecision(9))));
}

/** Return a command that computes what the page shows. */
export function command(explorer, z) {
  const { model, values, index, seed, temperature, facts, painter } = explorer;
  const conditions = model.conditions.map(({ name, classes }, i) => {
    const value = classes ? classes[values[i]] : String(values[i]);
    return ` ${quote(name === "label" ? `--label=${value}` : `--condition=${name}=${value}`)}`;
  });
  const output = painter.isImage ? "picture.png" : "rows.csv";
  const rest = `-m ${quote(facts.model)}${conditions.join("")}`;
  if (index !== null) {
    const warm = temperature === 1 ? "" : ` --temperature ${temperature}`;
    const mean = drawnByDefault(painter) ? " --mean" : "";
    return `kvae sample ${rest} --seed ${seed} --start ${index} -n 1${warm}${mean} -o ${output}`;
  }
  const names = Array.from(z, (_, d) => `z_${d}`).join(",");
  return `printf '%s\\n' ${names} ${digits(z).join(",")} > z.csv\nkvae decode z.csv ${rest} -o ${output}`;
}

/** Return Python that computes what the page shows. */
export function python(explorer, z) {
  const { model, values, index, seed, temperature, facts } = explorer;
  const pairs = model.conditions.map(({ name, classes }, i) => `${JSON.stringify(name)}: ${JSON.stringify(classes ? classes[values[i]] : values[i])}`);
  const conditions = pairs.length ? `, conditions={${pairs.join(", ")}}` : "";
  const load = `model = kvae.load(${JSON.stringify(facts.model)})`;
  if (index !== null) {
    const warm = temperature === 1 ? "" : `, temperature=${temperature}`;
    const mean = drawnByDefault(explorer.painter) ? ", draw=False" : "";
    return `import kvae\n\n${load}\nx = model.sample(1, seed=${seed}, start=${index}${warm}${mean}${conditions}).x`;
  }
  return `import kvae\nimport numpy as np\n\n${load}\nz = np.array([[${digits(z).join(", ")}]], "float32")\nx = model.decode(z${conditions})`;
}

/** Build the buttons that copy and download. */
export function buildShare(explorer) {
  explorer.view(["z", "values", "sampling"], async () => {
    const z = await explorer.toZ();
    byId("command").textContent = command(explorer, z);
    byId("python").textContent = python(explorer, z);
  }, 100)();
  const copies = { "copy-command": () => byId("command").textContent, "copy-python": () => byId("python").textContent, "copy-link": () => location.href };
  for (const [id, text] of Object.entries(copies)) {
    const label = byId(id).textContent;
    byId(id).addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text());
        byId(id).textContent = "Copied";
      } catch {
        byId(id).textContent = "Select the text below";
      }
      setTimeout(() => (byId(id).textContent = label), 1500);
    });
  }
  byId("download").hidden = explorer.painter.isTable;
  byId("download").addEventListener("click", () => {
    const source = byId("stage").querySelector("canvas");
    const scale = explorer.painter.isImage ? Math.max(1, Math.ceil(280 / source.width)) : 1;
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [source.width * scale, source.height * scale];
    const context = picture.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(source, 0, 0, picture.width, picture.height);
    picture.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = "picture.png";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  });
}
