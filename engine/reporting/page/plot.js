// A drawing, with marks in rows that the pointer and the arrow keys visit.

const LINE = 36; // of a legend: long enough to tell dashes apart

class Plot {
  constructor(width, theme) {
    this.width = width;
    this.theme = theme;
    this.height = 0;
    this.rows = []; // of marks {x, y, r, text} in pixels: one row per line or matrix row
    this.svg = draw("svg", { xmlns: SVG, "font-family": FONT, "font-size": TEXT, fill: theme.ink });
    this.into = this.svg;
  }

  add(tag, attributes, ...children) {
    return this.into.appendChild(draw(tag, attributes, ...children));
  }

  /** Draw into a group. */
  group(attributes, content) {
    this.into = this.add("g", attributes);
    content();
    this.into = this.svg;
  }

  text(x, y, words, attributes = {}) {
    return this.add("text", { x: round(x), y: round(y), ...attributes }, words);
  }

  /** Draw lines of text from y on; return the y below them. */
  paragraph(x, y, words, attributes = {}) {
    for (const line of wrapped(words, this.width - x, TEXT, attributes["font-weight"])) {
      this.text(x, y + TEXT, line, attributes);
      y += TEXT * 1.35;
    }
    return y;
  }

  /** Draw swatches with their names in as many lines as needed; return the y below them. */
  legend(entries, y) {
    let x = 0;
    for (const entry of entries) {
      const name = fitted(entry.name, this.width - LINE - 8);
      const wide = LINE + 8 + widthOf(name) + 14;
      if (x && x + wide > this.width) [x, y] = [0, y + TEXT * 1.6];
      if (entry.band) {
        this.add("rect", { x, y: y + 3, width: LINE, height: 9, fill: entry.colour, "fill-opacity": entry.band });
      } else {
        if (!entry.unjoined) this.line([[x, y + 8], [x + LINE, y + 8]], entry);
        this.marker(x + LINE / 2, y + 8, entry);
      }
      this.text(x + LINE + 6, y + TEXT, name);
      x += wide;
    }
    return entries.length ? y + TEXT * 1.9 : y;
  }

  line(points, { colour, dash = 0, width = 2 }) {
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${round(x)} ${round(y)}`).join("");
    this.add("path", {
      d, fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": DASHES[dash % DASHES.length],
      "stroke-linejoin": "round", "stroke-linecap": dash ? "butt" : "round",
    });
  }

  marker(x, y, { colour, marker = 0, hollow = false }, size = 1) {
    this.add("path", {
      d: MARKERS[marker], transform: `translate(${round(x)} ${round(y)}) scale(${size})`,
      fill: hollow ? this.theme.paper : colour, stroke: hollow ? colour : this.theme.paper,
      "stroke-width": hollow ? 1.75 : 1,
    });
  }

  mark(row, mark) {
    (this.rows[row] ??= []).push(mark);
  }

  /** Finish the drawing at a height. */
  finish(height, label) {
    this.height = Math.ceil(height);
    fill(this.svg, { viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": label }, []);
    return this;
  }

  nearest(x, y) {
    let best = null;
    this.rows.forEach((row, r) => row.forEach((mark, i) => {
      const far = (mark.x - x) ** 2 + (mark.y - y) ** 2;
      if (!best || far < best.far) best = { far, row: r, place: i };
    }));
    return best;
  }
}

const round = (value) => Math.round(value * 10) / 10;

// Shapes and dashes distinguish categories and networks without colour.
const MARKERS = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
  "M-3.6 -3.6h7.2v7.2h-7.2z",
  "M0 -4.8l4.6 8h-9.2z",
  "M0 -5l4.6 5l-4.6 5l-4.6 -5z",
  "M0 4.8l4.6 -8h-9.2z",
  "M-1.6 -4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
  "M0 -1.9l2.9 -2.9l1.9 1.9l-2.9 2.9l2.9 2.9l-1.9 1.9l-2.9 -2.9l-2.9 2.9l-1.9 -1.9l2.9 -2.9l-2.9 -2.9l1.9 -1.9z",
  "M-5 -1.6h10v3.2h-10z",
  "M0 -5.6l1.5 3.9h4l-3.2 2.6l1.2 4.1l-3.5 -2.4l-3.5 2.4l1.2 -4.1l-3.2 -2.6h4z",
  "M4.8 0l-8 4.6v-9.2z",
  "M-4.8 0l8 -4.6v9.2z",
  "M-1.6 -5h3.2v10h-3.2z",
  "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0z",
];
const DOT = MARKERS.length - 1; // no category has it
const DASHES = [null, "7 4", "2 3", "9 3 2 3", "14 4", "9 3 2 3 2 3"];

/** Positions of panels side by side, as many per row as fit; a new group starts a new row. */
function grid(width, groups, { most, least, gap = 20 }) {
  const columns = Math.max(1, Math.min(groups.length, most, Math.floor((width + gap) / (least + gap))));
  const wide = (width - gap * (columns - 1)) / columns;
  const at = [];
  groups.forEach((group, i) => {
    const { column, row } = at.at(-1) ?? { column: -1, row: 0 };
    const next = column + 1 === columns || (i && group !== groups[i - 1]);
    at.push(next ? { column: 0, row: row + 1 } : { column: column + 1, row });
  });
  return { wide, rows: at.length ? at.at(-1).row + 1 : 0, left: (i) => at[i].column * (wide + gap), row: (i) => at[i].row };
}

/** The panels without a reason to leave them out, and the y below a line that names the others. */
function drawable(plot, panels, reason, y) {
  const named = new Map();
  for (const panel of panels) {
    const why = reason(panel);
    if (why) named.set(why, [...(named.get(why) ?? []), panel.title || "this network"]);
  }
  for (const [why, names] of named) y = plot.paragraph(0, y, `Not drawn, ${why}: ${names.join("; ")}.`, { fill: plot.theme.muted });
  return [panels.filter((panel) => !reason(panel)), named.size ? y + 6 : y];
}
