// Tokens are bytes: a character may be split over several of them.
let vocabulary = null;

const loadVocabulary = () =>
  once("vocabulary", async () => {
    if (head.vocabulary === null) return null;
    const [lengths, data] = await Promise.all([numbers("lengths"), block("pieces")]);
    const offsets = new Uint32Array(lengths.length + 1);
    lengths.forEach((length, i) => { offsets[i + 1] = offsets[i] + length; });
    vocabulary = { data, offsets };
    return vocabulary;
  });

function pieceBytes(token) {
  if (!vocabulary) return new TextEncoder().encode(`<${token}>`);
  return vocabulary.data.subarray(vocabulary.offsets[token], vocabulary.offsets[token + 1]);
}

// [code point, bytes it takes] at a place; a byte that is no UTF-8 is [-1, 1].
function character(bytes, i) {
  const a = bytes[i];
  if (a < 0x80) return [a, 1];
  const size = a >= 0xf0 && a < 0xf5 ? 4 : a >= 0xe0 && a < 0xf0 ? 3 : a >= 0xc2 && a < 0xe0 ? 2 : 0;
  if (!size || i + size > bytes.length) return [-1, 1];
  let point = a & (0xff >> (size + 1));
  for (let j = 1; j < size; j++) {
    if ((bytes[i + j] & 0xc0) !== 0x80) return [-1, 1];
    point = (point << 6) | (bytes[i + j] & 0x3f);
  }
  const least = [0, 0, 0x80, 0x800, 0x10000][size];
  if (point < least || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return [-1, 1];
  return [point, size];
}

// The text of some bytes, and for every unit of the string (and its end) the byte it begins at.
function decode(bytes) {
  const parts = [];
  const at = [];
  for (let i = 0; i < bytes.length;) {
    const [point, size] = character(bytes, i);
    const text = point < 0 ? "\ufffd" : String.fromCodePoint(point);
    for (let j = 0; j < text.length; j++) at.push(i);
    parts.push(text);
    i += size;
  }
  at.push(bytes.length);
  return { text: parts.join(""), at };
}

const NAMED = { 9: "⇥", 10: "⏎", 13: "␍" };
// Characters that show as nothing, or change how others are shown.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Cn}\p{Co}\u00a0\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2000-\u200f\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]/u;

function visibleBytes(bytes) {
  let out = "";
  for (let i = 0; i < bytes.length;) {
    const [point, size] = character(bytes, i);
    if (point < 0) out += `\\x${bytes[i].toString(16).padStart(2, "0")}`;
    else out += visibleCharacter(point);
    i += size;
  }
  return out;
}

function visibleCharacter(point) {
  const text = String.fromCodePoint(point);
  if (NAMED[point]) return NAMED[point];
  return HIDDEN.test(text) ? `\\u{${point.toString(16)}}` : text;
}

// A token that stands alone: everything in it can be seen, and nothing in it acts.
function visible(token) {
  const bytes = pieceBytes(token);
  if (!bytes.length) return "∅";
  const text = visibleBytes(bytes);
  return text.trim() ? text : "␣".repeat(text.length);
}

// A text that may have lines.
function visibleText(text) {
  return Array.from(text, (c) => (c === "\n" ? c : visibleCharacter(c.codePointAt(0)))).join("");
}

function joined(tokens) {
  const pieces = Array.from(tokens, pieceBytes);
  const ends = [];
  let total = 0;
  for (const piece of pieces) ends.push((total += piece.length));
  const bytes = new Uint8Array(total);
  pieces.forEach((piece, i) => bytes.set(piece, ends[i] - piece.length));
  return { bytes, ends, lengths: pieces.map((piece) => piece.length) };
}
