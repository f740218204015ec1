// A drawing, with marks in rows that the pointer and the arrow keys visit.

class Plot {
  constructor(width, theme) {
    this.width = width;
    this.theme = theme;
    this.height = 0;
    this.rows = []; // of marks {x, y, r, text} in pixels: one row per line or matrix row
    this.svg = draw("svg", { xmlns: SVG, "font-family": FONT, "font-size": TEXT, fill: theme.ink });
  }

  add(tag, attributes, ...children) {
    return this.svg.appendChild(draw(tag, attributes, ...children));
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
      const name = fitted(entry.name, this.width - 34);
      const wide = 34 + widthOf(name) + 16;
      if (x && x + wide > this.width) [x, y] = [0, y + TEXT * 1.6];
      if (entry.band) {
        this.add("rect", { x, y: y + 3, width: 26, height: 9, fill: entry.colour, "fill-opacity": entry.band });
      } else {
        this.line([[x, y + 8], [x + 26, y + 8]], entry);
        this.marker(x + 13, y + 8, entry);
      }
      this.text(x + 32, y + TEXT, name);
      x += wide;
    }
    return entries.length ? y + TEXT * 1.9 : y;
  }

  line(points, { colour, dash, width = 2 }) {
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${round(x)} ${round(y)}`).join("");
    this.add("path", {
      d, fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": dash || null,
      "stroke-linejoin": "round", "stroke-linecap": dash ? "butt" : "round",
    });
  }

  marker(x, y, { colour, marker = 0, hollow = false }, size = 1) {
    this.add("path", {
      d: MARKERS[marker % MARKERS.length](0, 0), transform: `translate(${round(x)} ${round(y)}) scale(${size})`,
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

// Shapes distinguish categories without colour.
const MARKERS = [
  (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z`,
  (x, y) => `M${x - 3.6} ${y - 3.6}h7.2v7.2h-7.2z`,
  (x, y) => `M${x} ${y - 4.8}l4.6 8h-9.2z`,
  (x, y) => `M${x} ${y - 5}l4.6 5l-4.6 5l-4.6 -5z`,
  (x, y) => `M${x} ${y + 4.8}l4.6 -8h-9.2z`,
  (x, y) => `M${x - 1.6} ${y - 4.6}h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z`,
  (x, y) => `M${x - 5} ${y}l2.5 -4.3h5l2.5 4.3l-2.5 4.3h-5z`,
  (x, y) => `M${x - 4} ${y - 1.6}h8v3.2h-8z`,
];

/** Positions of panels side by side, as many per row as fit. */
function grid(width, number, { most, least, gap = 20 }) {
  const columns = Math.max(1, Math.min(number, most, Math.floor((width + gap) / (least + gap))));
  const wide = (width - gap * (columns - 1)) / columns;
  const at = (index) => ({ column: index % columns, row: Math.floor(index / columns) });
  return { columns, wide, rows: Math.ceil(number / columns), left: (i) => at(i).column * (wide + gap), row: (i) => at(i).row };
}
