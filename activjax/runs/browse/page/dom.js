// Elements of the page. Data becomes text or the value of an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Fill an element: attributes, `on...` listeners, children that are nodes or text. */
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined)
    .map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

/** An HTML element. */
export function el(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function svg(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** A text, cut where it is too long for its place; the whole of it shows on hovering. */
export function cut(text, length) {
  const whole = String(text);
  if (whole.length <= length) return el("bdi", {}, whole);
  return el("bdi", { title: whole.slice(0, 2000) }, `${whole.slice(0, length - 1)}…`);
}

/** A labelled choice; `options` are [value, text]. */
export function choice(label, options, value, change) {
  const select = el("select", { onchange: (event) => change(event.target.value) },
    options.map(([key, text]) => el("option", { value: key }, text)));
  select.value = value;
  return el("label", { class: "choice" }, `${label} `, select);
}

/** A labelled box to tick. */
export function tick(label, checked, change) {
  return el("label", { class: "choice" },
    el("input", { type: "checkbox", checked, onchange: (event) => change(event.target.checked) }),
    ` ${label}`);
}

/** A section with a heading; empty content makes none. */
export function section(heading, id, ...content) {
  return headed("h2", heading, id, content);
}

/** The same below another section. */
export function subsection(heading, id, ...content) {
  return headed("h3", heading, id, content);
}

function headed(level, heading, id, content) {
  const inner = content.flat(3).filter(Boolean);
  return inner.length ? el("section", { id }, el(level, {}, heading), inner) : null;
}

/** Call `work` once a frame at most. */
export function framed(work) {
  let asked = 0;
  return () => {
    if (!asked) {
      asked = requestAnimationFrame(() => {
        asked = 0;
        work();
      });
    }
  };
}
