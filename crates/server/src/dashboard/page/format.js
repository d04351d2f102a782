// Numbers as people read them. Invariant: pure; every function returns text for any number, and "–" for none.

const NONE = "–";
const WHOLE = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Three significant digits with a unit, such as `1.24 ms`; `steps` are [from, divisor, unit], largest first. */
function scaled(value, steps) {
  if (!isNumber(value)) return NONE;
  const [, divisor, unit] = steps.find(([from]) => value >= from) ?? steps.at(-1);
  const number = value / divisor;
  const digits = divisor === 1 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
  return `${number.toFixed(digits)}\u202f${unit}`;
}

const whole = (value) => (isNumber(value) ? WHOLE.format(Math.round(value)) : NONE);

const perSecond = (value) =>
  !isNumber(value) || value < 10_000 ? `${whole(value)}/s` : `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k/s`;

const micros = (value) => (value === 0 ? "0" : scaled(value, [[60e6, 60e6, "min"], [1e6, 1e6, "s"], [1e3, 1e3, "ms"], [0, 1, "µs"]]));

/** A percentile of an interval: 0 means that nothing ended in it. */
const percentile = (value) => (value === 0 ? NONE : micros(value));

const millis = (value) => micros(isNumber(value) ? value * 1000 : value);

const bytes = (value) =>
  scaled(value, [[2 ** 30, 2 ** 30, "GiB"], [2 ** 20, 2 ** 20, "MiB"], [2 ** 10, 2 ** 10, "KiB"], [0, 1, "B"]]);

const percent = (part, total) => (total > 0 ? `${Math.round((100 * part) / total)}\u202f%` : NONE);

const clock = (unixMs) => CLOCK.format(unixMs);

/** How long ago, in its largest unit: `12 s`, `3 min`, `26 h`, `4 d`. */
function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [, unit] = [[172_800, "d"], [7200, "h"], [120, "min"], [0, "s"]].find(([from]) => seconds >= from);
  const length = { d: 86_400, h: 3600, min: 60, s: 1 }[unit];
  return `${Math.floor(seconds / length)}\u202f${unit}`;
}
