// Scales: from values to places between 0 and 1, with the marks that belong on an axis.
import { number, superscript } from "./numbers.js";

const SETTINGS = 9; // values that are marked one by one,
const APART = 0.07; // if they are so far from one another

/** Round steps of 1, 2 or 5 between two ends. */
function steps(low, high, most) {
  const raw = (high - low) / most;
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * ten).find((s) => s >= raw * (1 - 1e-9));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
    found.push(Number((k * step).toPrecision(12)));
  }
  return found;
}

function linear(low, high, most) {
  let [a, b] = [low, high];
  if (!(b > a)) {
    const room = Math.abs(a) * 0.1 || 1;
    [a, b] = [a - room, b + room];
  }
  const place = (v) => (v - a) / (b - a);
  const marks = steps(a, b, most);
  const gap = marks.length > 1 ? Math.abs(marks[1] - marks[0]) : 0;
  const places = gap >= 1 ? 0 : gap ? Math.max(0, -Math.floor(Math.log10(gap) + 1e-9)) : undefined;
  const far = Math.max(Math.abs(a), Math.abs(b));
  const text = (v) => (v === 0 ? "0"
    : far >= 1e5 || far < 1e-3 ? number(v) : number(v, places));
  return { kind: "linear", place, back: (p) => a + p * (b - a),
    ticks: marks.map((v) => ({ at: place(v), text: text(v) })) };
}

function logarithmic(low, high, most) {
  let [a, b] = [Math.log10(low), Math.log10(high)];
  if (!(b > a)) [a, b] = [a - 0.3, b + 0.3];
  const place = (v) => (v > 0 ? (Math.log10(v) - a) / (b - a) : NaN);
  const decades = b - a;
  const every = Math.max(1, Math.ceil(decades / most));
  const found = [];
  for (let k = Math.floor(a); k <= Math.ceil(b); k += 1) {
    const inner = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
    for (const m of inner) {
      const at = (k + Math.log10(m) - a) / (b - a);
      const named = m !== 1 || k % every === 0;
      if (at > -1e-6 && at < 1 + 1e-6 && named) found.push({ at, text: power(k, m) });
    }
  }
  return { kind: "log", place, back: (p) => 10 ** (a + p * (b - a)), ticks: found };
}

function power(k, m) {
  if (k >= -4 && k <= 4) return number(m * 10 ** k);
  return m === 1 ? `10${superscript(k)}` : `${m} × 10${superscript(k)}`;
}

function ordinal(values, text, most) {
  const index = new Map(values.map((value, i) => [value, i]));
  const n = values.length;
  const place = (value) => (index.has(value) ? (index.get(value) + 0.5) / n : NaN);
  const every = Math.max(1, Math.ceil(n / most));
  const ticks = values.map((value, i) => ({ at: (i + 0.5) / n, text: text(value), i }))
    .filter((tick) => tick.i % every === 0);
  return { kind: "ordinal", place, ticks, values,
    back: (p) => values[Math.min(n - 1, Math.max(0, Math.floor(p * n)))] };
}

/** How uneven some gaps are: their spread against their mean. */
function uneven(values) {
  const gaps = values.slice(1).map((v, i) => v - values[i]);
  const mean = gaps.reduce((sum, g) => sum + g, 0) / gaps.length;
  return Math.sqrt(gaps.reduce((sum, g) => sum + (g - mean) ** 2, 0) / gaps.length) / mean;
}

/** Whether values are spread as on a log scale: their gaps are more even there. */
export function looksLog(values) {
  const numbers = values.filter((v) => typeof v === "number" && Number.isFinite(v));
  if (numbers.length < 3 || numbers.some((v) => v <= 0)) return false;
  const sorted = [...new Set(numbers)].sort((x, y) => x - y);
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  if (high / low < 8) return false;
  return uneven(sorted.map(Math.log)) < uneven(sorted);
}

/**
 * A scale for some values.
 *
 * `kind` is "log", "linear" or "ordinal"; `room` is left free at both ends; few values that are
 * `settings` are marked themselves, each as its `text`.
 */
export function makeScale(values, kind, options = {}) {
  const { settings = false, text = String } = options;
  const scale = scaled(values, kind, options);
  if (settings && kind !== "ordinal" && values.length <= SETTINGS) {
    const ticks = values.map((v) => ({ at: scale.place(v), text: text(v) }));
    const places = ticks.map((tick) => tick.at).sort((a, b) => a - b);
    if (places.every((at, i) => !i || at - places[i - 1] > APART)) return { ...scale, ticks };
  }
  return scale;
}

function scaled(values, kind, { most = 6, room = 0.04, text = String }) {
  if (kind === "ordinal") return ordinal(values, text, most * 3);
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (typeof v !== "number" || !Number.isFinite(v) || (kind === "log" && v <= 0)) continue;
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  if (low > high) [low, high] = kind === "log" ? [1, 10] : [0, 1];
  if (kind === "log") {
    const wide = (high / low) ** room;
    return logarithmic(low / wide, high * wide, most);
  }
  const wide = (high - low) * room;
  return linear(low - wide, high + wide, most);
}
