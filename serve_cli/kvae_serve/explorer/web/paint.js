// Pictures of data: images and line plots on a canvas, rows of a table as HTML. Names enter as text only.

const LINES = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];
const MOST_BARS = 12;

/** Create an element with properties and children; a text child is text, never markup. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Return a colour for a class index. */
export function colour(index) {
  return index < LINES.length ? LINES[index] : `hsl(${(index * 137.5) % 360} 65% ${index % 2 ? 40 : 60}%)`;
}

/** Colours of matplotlib's viridis in equal steps, as RGB: the order of their lightness is that of the numbers. */
export const VIRIDIS = [[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37]];

/** Return the colour of a number from 0 to 1. */
export function scaleColour(share) {
  const place = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[below].map((each, i) => Math.round(each + (place - below) * (VIRIDIS[below + 1][i] - each)))})`;
}

/** Format a number with few digits. */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 100 ? 5 : 3)));
}

export class Painter {
  constructor(manifest) {
    this.data = manifest.data;
    this.likelihood = manifest.likelihood;
    this.kind = manifest.data.kind;
    this.size = this.data.shape.reduce((product, each) => product * each, 1);
    this.isImage = this.kind === "image";
    this.isTable = this.kind === "table";
    const [height, width, channels] = this.isImage ? this.data.shape : [120, 180, 0];
    Object.assign(this, { height, width, channels });
  }

  /** Return the ImageData of one image. */
  imageData(x) {
    const { height, width, channels } = this;
    const [low, high] = this.data.range ?? extent(x);
    const pixels = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) {
        pixels.data[4 * i + c] = Math.round((255 * (x[i * channels + (channels >= 3 ? c : 0)] - low)) / (high - low));
      }
      pixels.data[4 * i + 3] = 255;
    }
    return pixels;
  }

  /** Paint one row on a canvas. Images are painted at their own size, plots at `width` x `height`. */
  canvas(canvas, x, { width = this.width, height = this.height, axes = false } = {}) {
    if (this.isImage) {
      canvas.width = this.width;
      canvas.height = this.height;
      canvas.getContext("2d").putImageData(this.imageData(x), 0, 0);
      return;
    }
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.clearRect(0, 0, width, height);
    this.#plot(context, x, width, height, axes);
  }

  #plot(context, x, width, height, axes) {
    const features = this.kind === "sequence" ? this.data.shape[1] : 1;
    const steps = this.size / features;
    const { mean, scale, range } = this.data;
    let [low, high] = extent(x);
    if (range) [low, high] = [Math.min(low, range[0]), Math.max(high, range[1])];
    else if (mean && scale) {
      low = Math.min(low, ...mean.map((each, i) => each - 2.5 * scale[i]));
      high = Math.max(high, ...mean.map((each, i) => each + 2.5 * scale[i]));
    }
    if (!(high > low)) [low, high] = [low - 1, high + 1];
    const [left, bottom, top] = axes ? [44, 22, 8] : [3, 3, 3];
    const toX = (step) => left + ((width - left - (axes ? 8 : 3)) * step) / Math.max(1, steps - 1);
    const toY = (value) => top + ((height - bottom - top) * (high - value)) / (high - low);
    if (axes) {
      const style = getComputedStyle(document.documentElement);
      context.fillStyle = style.getPropertyValue("--soft-text");
      context.strokeStyle = style.getPropertyValue("--line");
      context.font = "11px system-ui, sans-serif";
      context.textAlign = "right";
      for (const value of [low, (low + high) / 2, high]) {
        context.beginPath();
        context.moveTo(left, toY(value));
        context.lineTo(width - 8, toY(value));
        context.stroke();
        context.fillText(short(value), left - 5, toY(value) + 4);
      }
      context.textAlign = "center";
      context.fillText("0", toX(0), height - 6);
      if (steps > 1) context.fillText(String(steps - 1), toX(steps - 1) - 4, height - 6);
    }
    for (let feature = 0; feature < features; feature++) {
      context.strokeStyle = colour(feature);
      context.lineWidth = axes ? 2 : 1.5;
      context.lineJoin = "round";
      context.beginPath();
      for (let step = 0; step < steps; step++) {
        const point = [toX(step), toY(x[step * features + feature])];
        if (step) context.lineTo(...point);
        else context.moveTo(...point);
        if (steps === 1) context.arc(...point, 2, 0, 7);
      }
      context.stroke();
    }
  }

  /** Return names of the columns of x. */
  columnNames() {
    const columns = this.isTable ? this.data.columns : [];
    return Array.from({ length: this.size }, (_, i) => String(columns[i]?.name ?? `x${i}`));
  }

  /** Return the text of value i of a row of a table, as kvae writes it: a class name, a number, a date, or a missing cell. */
  cellText(value, i) {
    const column = (this.isTable && this.data.columns[i]) || {};
    if (Array.isArray(column.classes)) return String(column.classes[Math.round(value)] ?? column.missing ?? "");
    if (Number.isNaN(value)) return String(column.missing || "missing");
    const inUnits = value + (column.offset ?? 0);
    const rounded = column.step > 0 ? Math.round(inUnits / column.step) * column.step : inUnits;
    const number = Math.min(Math.max(rounded, column.minimum ?? -Infinity), column.maximum ?? Infinity);
    if (column.format) return dateText(number, column.format);
    let text = Number.isInteger(column.decimals) ? number.toFixed(Math.min(column.decimals, 20)) : short(number);
    if (column.width > 0) text = text.padStart(Math.min(column.width, 40), "0");
    const [whole, ...rest] = text.split(".");
    const groups = column.thousands ? whole.replace(/\B(?=(\d{3})+$)/g, column.thousands) : whole;
    text = [groups, ...rest].join(column.decimal ?? ".");
    return `${column.prefix ?? ""}${text}${column.suffix ?? ""}`;
  }

  /** Return the names of the outcomes of column i that have probabilities: its classes, or its atoms. */
  outcomes(i) {
    const column = this.data.columns[i] ?? {};
    return column.classes ?? column.atoms?.map((atom) => this.cellText(atom, i));
  }

  /** Return a table of one row of data: each column with its value, spread, and bars of class probabilities. */
  record(outputs) {
    const x = outputs.get("x_mean");
    const body = element("tbody");
    this.columnNames().forEach((name, i) => {
      const classes = this.outcomes(i);
      const probabilities = outputs.get(this.likelihood.probabilities?.[i]);
      const cell = element("td", {}, this.cellText(x[i], i));
      const deviation = this.deviation(outputs, i);
      if (Number.isFinite(deviation)) cell.append(element("span", { className: "soft" }, ` ± ${short(deviation)}`));
      const missing = outputs.get(this.likelihood.missing)?.[i];
      if (missing >= 0.005) cell.append(element("span", { className: "soft" }, ` · missing ${(100 * missing).toFixed(0)} %`));
      if (classes && probabilities) cell.append(this.bars(classes, probabilities));
      body.append(element("tr", {}, element("th", { scope: "row" }, name), cell));
    });
    return element("table", { className: "record" }, body);
  }

  /** Return the standard deviation of column i given z, in data units, or NaN if it is unknown. */
  deviation(outputs, i) {
    const { format, form = "standard", scale = 1 } = this.data.columns[i] ?? {};
    const [logVar, weight, score] = ["x_log_var", "x_weight", "x_score"].map((name) => outputs.get(name));
    // The variance of the form `quantile` is that of a score, and that of a date is in seconds.
    if (this.outcomes(i) || format || form !== "standard" || !logVar) return NaN;
    if (!weight) return Math.exp(logVar[i] / 2);
    let [mean, square] = [0, 0]; // of a mixture of normals `[components, columns]`, in standard units
    for (let k = i; k < weight.length; k += this.size) {
      mean += weight[k] * score[k];
      square += weight[k] * (Math.exp(logVar[k]) + score[k] ** 2);
    }
    return scale * Math.sqrt(square - mean ** 2);
  }

  /** Return bars of class probabilities, the likeliest classes if there are many. */
  bars(classes, probabilities) {
    const order = [...classes.keys()];
    if (classes.length > MOST_BARS) order.sort((a, b) => probabilities[b] - probabilities[a]).length = MOST_BARS;
    const list = element("div", { className: "bars" });
    for (const i of order) {
      const bar = element("span", { className: "bar" });
      bar.style.width = `${100 * probabilities[i]}%`;
      const percent = `${(100 * probabilities[i]).toFixed(probabilities[i] < 0.1 ? 1 : 0)} %`;
      list.append(element("span", { className: "bar-name" }, String(classes[i]) || "(empty)"), element("span", { className: "track" }, bar), element("span", { className: "bar-value" }, percent));
    }
    return list;
  }

  /** Show rows in a container: buttons with pictures, or a table. `choose(i)` is called with the chosen row. */
  cells(container, x, captions, choose) {
    const num = x.length / this.size;
    const row = (i) => x.subarray(i * this.size, (i + 1) * this.size);
    const focused = [...container.querySelectorAll("button")].indexOf(document.activeElement);
    if (this.isTable) {
      const head = element("tr", {}, element("th", {}), ...this.columnNames().map((name) => element("th", { scope: "col" }, name)));
      const body = element("tbody");
      for (let i = 0; i < num; i++) {
        const button = element("button", { type: "button", className: "row-button", onclick: () => choose(i) }, captions[i]);
        const values = Array.from(row(i), (value, column) => element("td", {}, this.cellText(value, column)));
        body.append(element("tr", {}, element("th", { scope: "row" }, button), ...values));
      }
      container.replaceChildren(element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Rows" }, element("table", { className: "rows" }, element("thead", {}, head), body)));
    } else {
      while (container.children.length > num) container.lastChild.remove();
      while (container.children.length < num) {
        container.append(element("button", { type: "button", className: "cell" }, element("canvas", {}), element("span", {})));
      }
      [...container.children].forEach((button, i) => {
        this.canvas(button.firstChild, row(i));
        button.lastChild.textContent = captions[i];
        button.setAttribute("aria-label", captions[i]);
        button.onclick = () => choose(i);
      });
    }
    if (focused >= 0) container.querySelectorAll("button")[focused]?.focus();
  }
}

const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/** Return seconds since 1970 in a format of strftime. */
function dateText(seconds, format) {
  const unit = /%f/.test(format) ? 1e-6 : /%S/.test(format) ? 1 : /%M/.test(format) ? 60 : /%-?[HI]/.test(format) ? 3600 : 86400;
  const whole = Math.round(seconds / unit) * unit;
  const date = new Date(Math.floor(whole) * 1000);
  const parts = {
    Y: [date.getUTCFullYear(), 4], y: [date.getUTCFullYear() % 100, 2], m: [date.getUTCMonth() + 1, 2], d: [date.getUTCDate(), 2],
    b: [MONTHS[date.getUTCMonth()]?.slice(0, 3), 0], B: [MONTHS[date.getUTCMonth()], 0], H: [date.getUTCHours(), 2],
    I: [((date.getUTCHours() + 11) % 12) + 1, 2], M: [date.getUTCMinutes(), 2], S: [date.getUTCSeconds(), 2],
    f: [Math.round((whole - Math.floor(whole)) * 1e6), 6], p: [date.getUTCHours() < 12 ? "AM" : "PM", 0], "%": ["%", 0],
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (all, bare, name) => {
    const [value, width] = parts[name] ?? [all, 0];
    return String(value).padStart(bare ? 0 : width, "0");
  });
}

function extent(x) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of x) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low < high ? [low, high] : [low - 1, low + 1];
}
