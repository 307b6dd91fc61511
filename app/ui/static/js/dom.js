// Elements, and numbers with no more digits than were measured.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Attributes that are functions are listeners; `style` is an object of properties. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element, likewise. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Milliseconds: a tenth below ten, whole ones above, seconds from ten thousand. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  return `${digits(value)} ms`;
}

/** Milliseconds that somebody asked for: no digit is added to them. */
export function given(value) {
  return value === null || value === undefined ? "–" : `${Number(value.toFixed(1))} ms`;
}

/** The number of `ms` alone. */
export function digits(value) {
  return value < 9.95 ? value.toFixed(1) : String(Math.round(value));
}

/** A share as per cent with one decimal, as the tables have it. */
export function percent(share) {
  return share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`;
}

/** A cosine with two decimals, without a zero before the point. */
export function cosine(value) {
  return value.toFixed(2).replace(/^(-?)0\./, "$1.").replace(/^-\.00$/, ".00");
}

/** A change of a cosine: always with its sign. */
export function change(value) {
  const text = cosine(Math.abs(value));
  if (text === ".00") return text;
  return (value < 0 ? "−" : "+") + text;
}

/** A message of the server's: what stands between backticks there is code here. */
export function worded(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

export function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

/** A function that runs once things have been still for a while. */
export function settled(wait, run) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), wait);
  };
}

/** A colour as the browser computes it, for canvases. */
export function computed(colour) {
  const probe = document.createElement("span");
  probe.style.color = colour;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
