// Which lines of a table are meant by a few words and conditions.
import { ODD } from "./numbers.js";

const OPERATORS = {
  "=": (order) => order === 0, "!=": (order) => order !== 0,
  "<": (order) => order < 0, "<=": (order) => order <= 0,
  ">": (order) => order > 0, ">=": (order) => order >= 0,
};
const collator = new Intl.Collator("en", { numeric: true });

export const HELP = "Words are looked for in all columns. Conditions: name=value, !=, <, <=, >, >=; "
  + "a name with spaces in quotes or with underscores. "
  + "Example: width>=32 \"test accuracy\"<0.9 state=done";

/** -1, 0 or 1; null where the two cannot be compared. */
export function compareValues(value, other) {
  if (value === null || Number.isNaN(value) || Number.isNaN(other)) return null;
  if (typeof value === "number" && typeof other === "number") return Math.sign(value - other);
  return Math.sign(collator.compare(String(value), String(other)));
}

function same(text) {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_+|_+$/g, "");
}

function named(table, name) {
  const wanted = same(name);
  const ways = [(c) => same(c.name) === wanted, (c) => same(c.name.split(".").pop()) === wanted,
    (c) => same(c.name).startsWith(wanted)];
  for (const way of ways) {
    const found = table.columns.find(way);
    if (found) return found;
  }
  return null;
}

/** What a column shows in each line, in small letters. */
function lowered(table, column) {
  if (!table.texts.has(column)) {
    const small = (value) => column.text(value).toLowerCase();
    if (column.levels) {
      const levels = column.levels.map(small);
      table.texts.set(column, column.codes.map((code) => levels[code]));
    } else {
      table.texts.set(column, column.values.map(small));
    }
  }
  return table.texts.get(column);
}

/** The lines in which a word stands: one look at each column. */
function withWord(table, word) {
  const found = new Uint8Array(table.cells);
  const inNumbers = /[0-9∞–−.]|^n|^a|^×/u.test(word); // all that a shown number can hold
  for (const column of table.columns) {
    if (column.numeric && !column.levels && !inNumbers) continue;
    const texts = lowered(table, column);
    for (let i = 0; i < texts.length; i += 1) if (!found[i] && texts[i].includes(word)) found[i] = 1;
  }
  return (i) => found[i] === 1;
}

/** A condition on the index of a line; an Error says what is wrong with the term. */
function term(table, text) {
  const unquoted = (part) => part.replaceAll('"', "");
  const parts = /^((?:"[^"]*"|[^"<>=!])+)(<=|>=|!=|=|<|>)(.*)$/s.exec(text);
  if (!parts) return withWord(table, unquoted(text).toLowerCase());
  const [name, operator, value] = [unquoted(parts[1]), parts[2], unquoted(parts[3])];
  const column = named(table, name);
  if (!column) throw new Error(`no column “${name}”`);
  if (value === "") return () => true;
  const equality = operator === "=" || operator === "!=";
  const negative = operator === "!=";
  const wanted = value.toLowerCase();
  const { values } = column;
  if (column.numeric && !(equality && wanted === "null")) {
    const other = ODD.has(wanted) ? ODD.get(wanted) : Number(value);
    if (Number.isNaN(other) && wanted !== "nan") throw new Error(`“${value}” is not a number`);
    if (Number.isNaN(other) && equality) return (i) => Number.isNaN(values[i]) !== negative;
    return (i) => {
      const found = compareValues(values[i], other);
      return found === null ? negative : OPERATORS[operator](found);
    };
  }
  if (equality) return (i) => (String(values[i] ?? "").toLowerCase() === wanted) !== negative;
  return (i) => values[i] !== null
    && OPERATORS[operator](collator.compare(String(values[i]), wanted));
}

/** The lines that meet all terms of a text, and what is wrong with the others. */
export function select(table, text, more) {
  const problems = [];
  const conditions = [];
  for (const part of text.match(/(?:"[^"]*"?|[^\s"])+/g) || []) {
    try {
      conditions.push(term(table, part));
    } catch (problem) {
      problems.push(problem.message);
    }
  }
  if (more) conditions.push(more);
  const lines = [];
  for (let i = 0; i < table.cells; i += 1) {
    if (conditions.every((condition) => condition(i))) lines.push(i);
  }
  return { lines, problems };
}
