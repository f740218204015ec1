// Elements, number formats and scales. Names reach the page as text, never as markup.

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const TEXT = 12;
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** An HTML element; children are nodes or text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const MISSING = "–";

/** For text: "6.1 %", "0.042 %"; never 100 % for less. */
function percent(value) {
  if (value == null) return MISSING;
  const size = Math.abs(100 * value);
  const digits = size === 0 ? 0 : size < 0.1 ? 3 : size < 1 ? 2 : 1;
  const text = (100 * value).toFixed(digits);
  return `${size < 100 && text === "100.0" ? "> 99.9" : text}\u00a0%`;
}

/** A measure of at most 1; never 1 for less. */
function bounded(value, digits = 2) {
  if (value == null) return MISSING;
  return value < 1 && Number(value.toFixed(digits)) === 1 ? `> ${(1 - 10 ** -digits).toFixed(digits)}` : value.toFixed(digits);
}

/** For axes: no more digits than needed. */
const percentTick = (value) => `${Number((100 * value).toPrecision(6))}\u00a0%`;

/** A value, not a tick, on an axis whose ticks have a format. */
const asTicks = (tick, value) => (tick === percentTick ? percent : decimal)(value);
const decimalTick = (value) => String(Number(value.toPrecision(6)));

function decimal(value) {
  if (value == null) return MISSING;
  const size = Math.abs(value);
  return size >= 1000 ? count(Math.round(value)) : value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

function count(value) {
  return value == null ? MISSING : value.toLocaleString("en");
}

/** p of a test, as papers write it. */
function probability(p) {
  if (p == null) return MISSING;
  return p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
}

/** Words joined by commas; empty ones are left out. */
function joined(...parts) {
  return parts.filter(Boolean).join(", ");
}

function interval(low, high, format) {
  return low == null ? "" : `95\u00a0% interval ${format(low)} to ${format(high)}`;
}

/** A linear scale from a domain to pixels. */
function linear([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Round numbers between low and high, about `number` of them. */
function ticks(low, high, number = 5) {
  const raw = (high - low || 1) / number;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) {
    found.push(Number((at * step).toPrecision(12)));
  }
  return found;
}

/** A domain that includes 0 and all values, extended to round numbers. */
function domainOf(values) {
  let [low, high] = [0, 0];
  for (const value of values) {
    if (value == null || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low === high) return [0, 1];
  const step = (([a, b]) => b - a)(ticks(low, high));
  return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
}

/** A long name with its middle left out: the ends of names distinguish layers. */
function shortened(text, most) {
  const letters = [...text]; // code points, not halves of surrogate pairs
  if (letters.length <= most) return text;
  const tail = Math.ceil((most - 1) / 2);
  return [...letters.slice(0, most - 1 - tail), "…", ...letters.slice(-tail)].join("");
}

const ruler = document.createElement("canvas").getContext("2d");

/** Width of a text in pixels. */
function widthOf(text, size = TEXT, weight = 400) {
  ruler.font = `${weight} ${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

/** A text in lines of at most a width. */
function wrapped(text, most, size, weight) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && widthOf(longer, size, weight) > most) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.map((line) => fitted(line, most, size, weight));
}

/** A name shortened in the middle to at most a width. */
function fitted(text, most, size, weight) {
  let length = text.length;
  while (length > 4 && widthOf(shortened(text, length), size, weight) > most) length -= 1;
  return shortened(text, length);
}

const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

/** A colour on a ramp of colours, at 0 to 1. */
function onRamp(ramp, share) {
  const place = Math.min(1, Math.max(0, share)) * (ramp.length - 1);
  const below = Math.min(Math.floor(place), ramp.length - 2);
  const [a, b] = [channels(ramp[below]), channels(ramp[below + 1])];
  const mixed = a.map((value, i) => Math.round(value + (place - below) * (b[i] - value)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/** Relative luminance of a colour (WCAG 2). */
function luminance(hex) {
  const [r, g, b] = channels(hex).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever is more readable on a colour. */
function readableOn(hex) {
  return luminance(hex) > 0.18 ? "#000000" : "#ffffff";
}
