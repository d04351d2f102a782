// Charts over time, as SVG. Invariant: what a chart shows is there as text too: the present values in its caption, any
// moment by the arrow keys or the pointer, and twenty rows in a table for screen readers.
//
// A sample is an array that begins with its time in unix ms. Nothing here knows where samples are from.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300; // of the drawing; the picture is stretched to its place
const HEIGHT = 80;
const BUCKETS = 200; // points of a line at most: the largest value of each interval, so that no peak is lost
const LONGEST_GAP_MS = 12_000; // samples further apart are not joined
const TABLE_ROWS = 20;
const TABLE_EVERY_MS = 10_000;

/** Makes an element: `element("p", { class: "small" }, "text", child)`. Text is never read as HTML. */
function element(name, attributes = {}, ...children) {
  const made = name === "svg" || name === "path" || name === "line" ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Sets the text of a node only if it differs, so that nothing is laid out again for nothing. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

class TimeChart {
  /**
   * @param figure the `<figure>` to fill
   * @param title the name of the chart
   * @param lines `{ label, value, format }` each: `value` takes a sample, `format` makes text of its value
   * @param options `stacked`: the lines are parts of a sum. `logarithmic`: for values of different magnitude.
   *   `least`: the scale reaches at least this value. `limit`: a function that returns a value to mark, or null.
   *   `now`: a function of the newest sample that returns the text of the caption
   * @param announce is told, at the user's request, what is under the cursor
   */
  constructor(figure, title, lines, options, announce) {
    Object.assign(this, { figure, lines, options, announce });
    this.samples = [];
    this.window = null;
    this.cursor = null; // unix ms, or null
    this.tableAt = 0;
    this.#build(title);
    figure.addEventListener("keydown", (event) => this.#key(event));
    figure.addEventListener("blur", () => this.#moveTo(null));
    this.plot.addEventListener("pointermove", (event) => this.#point(event));
    this.plot.addEventListener("pointerleave", () => this.#moveTo(null));
    figure.addEventListener("focus", () => this.#fillTable());
  }

  #build(title) {
    const { figure, lines } = this;
    this.now = element("p", { class: "now" }, NONE);
    this.values = lines.map(() => element("span", { class: "value" }));
    const legend = lines.map(({ label }, index) =>
      element("li", {}, element("span", { class: `swatch line-${index}`, "aria-hidden": "true" }), `${label} `, this.values[index]));
    this.areas = lines.map((_, index) => element("path", { class: `area line-${index}` }));
    this.strokes = lines.map((_, index) => element("path", { class: `stroke line-${index}` }));
    this.limit = element("line", { class: "limit", x1: 0, x2: WIDTH });
    this.mark = element("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    const drawing = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      ...this.areas, ...this.strokes, this.limit, this.mark);
    this.top = element("span", { class: "top" });
    this.plot = element("div", { class: "plot", "aria-hidden": "true" }, drawing, this.top);
    this.readout = element("p", { class: "readout" });
    this.rows = element("tbody");
    const heads = ["Time", ...lines.map(({ label }) => label)].map((label) => element("th", { scope: "col" }, label));
    const table = element("table", { id: `${figure.id}-table` },
      element("caption", {}, `${title}, the last ten minutes`), element("thead", {}, element("tr", {}, ...heads)), this.rows);
    const caption = element("figcaption", {}, element("h3", {}, title), this.now);
    if (lines.length > 1) caption.append(element("ul", { class: "legend" }, ...legend));
    for (const [key, value] of Object.entries({ role: "figure", tabindex: "0", "aria-label": title, "aria-details": table.id }))
      figure.setAttribute(key, value);
    figure.classList.toggle("stacked", Boolean(this.options.stacked));
    figure.replaceChildren(caption, this.plot, this.readout, element("div", { class: "visually-hidden" }, table));
  }

  /** Draws samples, oldest first, of the `length` ms before `end`. */
  draw(samples, end, length) {
    this.samples = samples;
    this.window = { start: end - length, length };
    const newest = samples.at(-1);
    setText(this.now, newest ? this.options.now(newest) : NONE);
    this.lines.forEach(({ value, format }, index) => setText(this.values[index], newest ? format(value(newest)) : NONE));
    const runs = this.#runs();
    const limit = this.options.limit?.() ?? null;
    const peak = Math.max(this.options.least ?? 1, limit ?? 0, ...runs.flat().map((point) => this.#height(point.values)));
    const scale = this.#scale(peak);
    setText(this.top, this.lines[0].format(peak));
    this.#paint(runs, scale);
    this.limit.setAttribute("visibility", limit === null ? "hidden" : "visible");
    if (limit !== null) for (const name of ["y1", "y2"]) this.limit.setAttribute(name, scale(limit).toFixed(1));
    this.#showCursor();
    if (end - this.tableAt >= TABLE_EVERY_MS) this.#fillTable();
  }

  #height(values) {
    return this.options.stacked ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
  }

  /** Returns the function from a value to its place, below the largest one. */
  #scale(peak) {
    const bottom = HEIGHT - 1;
    const room = HEIGHT - 6;
    if (!this.options.logarithmic) return (value) => bottom - (room * value) / peak;
    const floor = Math.log10(this.options.logarithmic);
    const span = Math.max(1, Math.log10(peak) - floor);
    return (value) => bottom - room * Math.max(0, (Math.log10(Math.max(value, 1)) - floor) / span);
  }

  /** Returns runs of points without a gap: `{ x, values }`, one for each interval that has samples. */
  #runs() {
    const { start, length } = this.window;
    const runs = [];
    let previous = -Infinity;
    let bucket = -1;
    for (const sample of this.samples) {
      if (sample[0] < start) continue;
      const at = Math.floor(((sample[0] - start) / length) * BUCKETS);
      if (sample[0] - previous > LONGEST_GAP_MS) runs.push([]);
      else if (at === bucket) {
        const { values } = runs.at(-1).at(-1);
        this.lines.forEach(({ value }, index) => (values[index] = Math.max(values[index], value(sample))));
        previous = sample[0];
        continue;
      }
      runs.at(-1).push({ x: ((sample[0] - start) / length) * WIDTH, values: this.lines.map(({ value }) => value(sample)) });
      previous = sample[0];
      bucket = at;
    }
    return runs;
  }

  #paint(runs, scale) {
    const { stacked } = this.options;
    this.lines.forEach((_, index) => {
      let line = "";
      let area = "";
      for (const run of runs) {
        const height = (values, upTo) => (stacked ? values.slice(0, upTo + 1).reduce((sum, value) => sum + value, 0) : values[upTo]);
        const upper = run.map(({ x, values }) => `${x.toFixed(1)} ${scale(height(values, index)).toFixed(1)}`);
        const lower = stacked && index > 0
          ? run.map(({ x, values }) => `${x.toFixed(1)} ${scale(height(values, index - 1)).toFixed(1)}`).reverse()
          : [`${run.at(-1).x.toFixed(1)} ${HEIGHT}`, `${run[0].x.toFixed(1)} ${HEIGHT}`];
        line += `M${upper.join("L")}`;
        if (stacked || index === 0) area += `M${upper.join("L")}L${lower.join("L")}Z`;
      }
      this.strokes[index].setAttribute("d", line);
      this.areas[index].setAttribute("d", area);
    });
  }

  #key(event) {
    if (!this.window || event.target !== this.figure || this.samples.length === 0) return;
    const step = this.window.length / BUCKETS;
    const last = this.samples.at(-1)[0];
    const from = this.cursor ?? last;
    const target = { ArrowLeft: from - step, ArrowRight: from + step, Home: this.samples[0][0], End: last, Escape: null }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.#moveTo(target === null ? null : Math.min(last, Math.max(this.window.start, target)));
    if (this.cursor !== null) this.announce(this.readout.textContent);
  }

  #point(event) {
    if (!this.window) return;
    const place = this.plot.getBoundingClientRect();
    this.#moveTo(this.window.start + ((event.clientX - place.left) / place.width) * this.window.length);
  }

  #moveTo(time) {
    this.cursor = time;
    this.#showCursor();
  }

  #showCursor() {
    const sample = this.cursor === null ? undefined : nearest(this.samples, this.cursor);
    if (sample === undefined) this.cursor = null;
    this.figure.classList.toggle("has-cursor", this.cursor !== null);
    this.mark.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
    if (this.cursor === null) return;
    const x = (((sample[0] - this.window.start) / this.window.length) * WIDTH).toFixed(1);
    for (const name of ["x1", "x2"]) this.mark.setAttribute(name, x);
    const parts = this.lines.map(({ label, value, format }) => `${label} ${format(value(sample))}`);
    setText(this.readout, `${clock(sample[0])}: ${parts.join(", ")}`);
  }

  #fillTable() {
    if (!this.window) return;
    this.tableAt = this.window.start + this.window.length;
    const step = Math.max(1, Math.floor(this.samples.length / TABLE_ROWS));
    const chosen = this.samples.filter((_, index) => (this.samples.length - 1 - index) % step === 0).slice(-TABLE_ROWS);
    this.rows.replaceChildren(...chosen.map((sample) => {
      const cells = this.lines.map(({ value, format }) => element("td", {}, format(value(sample))));
      return element("tr", {}, element("th", { scope: "row" }, clock(sample[0])), ...cells);
    }));
  }
}

/** Returns the sample nearest in time, or undefined if there is none. Samples are sorted by time. */
function nearest(samples, time) {
  let low = 0;
  let high = samples.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle][0] < time) low = middle + 1;
    else high = middle;
  }
  const before = samples[low - 1];
  return before && time - before[0] < samples[low][0] - time ? before : samples[low];
}

/** Draws a bar of parts of a whole: `parts` are [class, value]. The text beside it must say the same. */
function drawShares(bar, parts) {
  while (bar.childElementCount < parts.length) bar.append(element("span"));
  parts.forEach(([kind, value], index) => {
    const part = bar.children[index];
    if (part.className !== kind) part.className = kind;
    part.style.flexGrow = String(value);
  });
}
