// Numbers as people write them, as in the rest of the report; means with their intervals.

export const ODD = new Map([
  ["nan", NaN], ["NaN", NaN], ["inf", Infinity], ["Infinity", Infinity],
  ["-inf", -Infinity], ["-Infinity", -Infinity],
]);

/** Numbers that JSON has no word for come as text. */
export function numeric(value) {
  return ODD.has(value) ? ODD.get(value) : value;
}

export function superscript(text) {
  return [...String(text)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(c)] || "⁻").join("");
}

/** With that many decimals; without, or where it would show as zero, four digits. */
export function number(value, places) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  let text;
  if (places === undefined || Math.abs(value) >= 1e21 || (value !== 0 && Number(value.toFixed(places)) === 0)) {
    text = value.toPrecision(4);
    if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e4)) {
      text = value.toExponential(3);
    }
    const [mantissa, exponent] = text.split("e");
    text = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    if (exponent) text += ` × 10${superscript(Number(exponent))}`;
  } else {
    text = (Number(value.toFixed(places)) + 0).toFixed(places);
  }
  return text.replace("-", "−");
}

/** A whole number with commas. */
export function count(value) {
  return value.toLocaleString("en");
}

/** `3 cells`, `1 cell`. */
export function plural(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** Seconds in their largest unit. */
export function age(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

// 97.5 % points of Student's t with 1 to 30 degrees of freedom
const T = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010,
  2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687,
  2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423];

/** The 97.5 % point of Student's t. */
export function studentT(freedom) {
  if (freedom <= T.length) return T[freedom - 1];
  const z = 1.959964;
  // expansion about the normal point (Abramowitz and Stegun 26.7.5)
  return z + (z ** 3 + z) / (4 * freedom)
    + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2)
    + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * freedom ** 3);
}

/** The mean of independent trials with its 95 % interval; a single one has none. */
export function meanInterval(values) {
  const n = values.length;
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  if (n < 2 || !Number.isFinite(mean)) return { mean, low: null, high: null, n };
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (n - 1);
  const half = studentT(n - 1) * Math.sqrt(variance / n);
  return { mean, low: mean - half, high: mean + half, n };
}
