// Columns as they come from the server or stand in the file, unpacked.
import { number, numeric } from "./numbers.js";

function unpacked(packed, cells) {
  const isNumber = packed.kind === "integer" || packed.kind === "number";
  const turn = isNumber ? numeric : (value) => value;
  let values;
  let levels = null;
  let codes = null;
  if ("same" in packed) {
    levels = [turn(packed.same)];
    codes = new Array(cells).fill(0);
    values = new Array(cells).fill(levels[0]);
  } else if (packed.levels) {
    levels = packed.levels.map(turn);
    ({ codes } = packed);
    values = codes.map((code) => levels[code]);
  } else {
    values = packed.values.map(turn);
  }
  const column = { ...packed, values, levels, codes, numeric: isNumber };
  column.text = (value) => shown(column, value);
  return column;
}

/** A value as the table shows it. */
function shown(column, value) {
  if (value === null) return column.role === "error" ? "" : "–";
  if (typeof value === "number") {
    if (column.kind === "number") return number(value, column.places);
    return String(value).replace("-", "−");
  }
  return String(value);
}

/** The table: `cells` lines and `columns`, each with `values` and `text(value)`. */
export function makeTable(data) {
  const columns = data.columns.map((column) => unpacked(column, data.cells));
  const byName = new Map(columns.map((column) => [column.name, column]));
  const role = (wanted) => columns.filter((column) => column.role === wanted);
  return { cells: data.cells, columns, byName, role, texts: new Map() };
}

/** The distinct values of a column that are there: numbers in order, others as they come. */
export function distinct(column, lines) {
  const found = new Set();
  if (lines) for (const i of lines) found.add(column.values[i]);
  else for (const value of column.values) found.add(value);
  found.delete(null);
  const values = [...found];
  const numbers = values.every((value) => typeof value === "number");
  return numbers ? values.sort((a, b) => a - b) : values;
}

/** A column's name with its unit. */
export function titled(column) {
  return column.unit ? `${column.name} (${column.unit})` : column.name;
}
