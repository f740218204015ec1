// A figure: a drawing to read by pointer and keyboard, its numbers as a table, and downloads.

const SCALE = 3; // 760 pixels become 300 per inch at 7.6 inches

class Figure {
  /**
   * place: the element to fill. known: {title, name, controls, table() -> {columns, rows}, and
   * picture(width, theme) -> Plot or content() -> node}
   */
  constructor(place, known) {
    this.place = place;
    this.known = known;
    this.at = null;
    this.tools = place.querySelector(".tools");
    this.tools.append(...(known.controls ?? []));
    if (known.picture) {
      this.plot = el("div", {
        class: "plot", tabindex: "0", role: "application", "aria-roledescription": "figure",
        "aria-label": `${known.title}. Arrow keys read its values, Escape leaves them.`,
        onkeydown: (event) => this.key(event), onblur: () => this.leave(),
        onpointermove: (event) => this.point(event), onpointerdown: (event) => this.point(event),
        onpointerleave: () => this.leave(),
      });
      this.readout = el("output", { class: "readout", "aria-live": "polite", hidden: true });
      this.holder = el("div", { class: "holder" }, this.plot, this.readout);
      this.tools.append(this.saving("SVG", () => this.saveSvg()), this.saving("PNG", () => this.savePng()));
    } else {
      this.holder = el("div", { class: "holder" });
    }
    this.tools.append(this.saving("CSV", () => this.saveCsv()));
    place.querySelector(".drawing").replaceChildren(this.holder);
    this.details = el("details", { class: "numbers", ontoggle: () => this.tabulate() }, el("summary", {}, `Numbers: ${known.title}`));
    place.append(this.details);
  }

  update(theme) {
    const { known } = this;
    if (known.picture) {
      const width = Math.max(280, Math.round(this.holder.clientWidth));
      this.drawn = known.picture(width, theme);
      this.plot.replaceChildren(this.drawn.svg);
      this.at = null;
      this.readout.hidden = true;
    } else {
      this.holder.replaceChildren(known.content());
    }
    this.tabulate();
  }

  tabulate() {
    if (!this.details.open) return;
    const { columns, rows } = this.known.table();
    const head = el("tr", {}, ...columns.map((name) => el("th", { scope: "col" }, name)));
    const body = rows.map((row) => el("tr", {}, ...row.map((cell, i) => (
      el(i ? "td" : "th", i ? { class: typeof cell === "number" ? "number" : null } : { scope: "row" }, shownCell(cell))
    ))));
    const table = el("table", {}, el("caption", { class: "aside" }, this.known.title), el("thead", {}, head), el("tbody", {}, ...body));
    this.details.querySelector(".scroll")?.remove();
    this.details.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers: ${this.known.title}` }, table));
  }

  point(event) {
    const seen = this.drawn.svg.getBoundingClientRect();
    const scale = this.drawn.width / seen.width;
    const best = this.drawn.nearest((event.clientX - seen.left) * scale, (event.clientY - seen.top) * scale);
    if (best && best.far < 60 ** 2) this.show(best.row, best.place);
    else this.leave();
  }

  key(event) {
    const rows = this.drawn.rows.filter((row) => row?.length);
    if (event.key === "Escape") return this.leave();
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e9], End: [0, 1e9] }[event.key];
    if (!step || !rows.length) return undefined;
    event.preventDefault();
    const from = this.at ?? { row: 0, place: -step[1] };
    const row = Math.min(rows.length - 1, Math.max(0, from.row + step[0]));
    return this.show(row, Math.min(rows[row].length - 1, Math.max(0, from.place + step[1])));
  }

  show(row, place) {
    const mark = this.drawn.rows[row][place];
    this.at = { row, place };
    this.ring?.remove();
    const style = { fill: "none", stroke: this.drawn.theme.ink, "stroke-width": 2, class: "ring" };
    const [wide, high] = mark.square ?? [];
    this.ring = mark.square
      ? draw("rect", { x: mark.x - wide / 2, y: mark.y - high / 2, width: wide, height: high, ...style })
      : draw("circle", { cx: mark.x, cy: mark.y, r: mark.r, ...style });
    this.drawn.svg.append(this.ring);
    this.readout.textContent = mark.text;
    this.readout.hidden = false;
    const scale = this.drawn.svg.getBoundingClientRect().width / this.drawn.width;
    const room = this.holder.clientWidth - this.readout.offsetWidth;
    this.readout.style.left = `${Math.max(0, Math.min(room, mark.x * scale - this.readout.offsetWidth / 2))}px`;
    const above = mark.y * scale - this.readout.offsetHeight - 14;
    this.readout.style.top = `${above > 0 ? above : mark.y * scale + 16}px`;
  }

  leave() {
    this.ring?.remove();
    this.readout.hidden = true;
    this.at = null;
  }

  saving(kind, onclick) {
    return el("button", { type: "button", "aria-label": `${kind} of: ${this.known.title}`, onclick }, kind);
  }

  /** The figure for print: its text as SVG, and its size. */
  forPrint() {
    const { svg, width, height } = this.known.picture(760, findings.palette.light);
    fill(svg, { width, height }, []);
    svg.prepend(draw("title", {}, this.known.title), draw("rect", { width, height, fill: findings.palette.light.paper }));
    return { text: new XMLSerializer().serializeToString(svg), width, height };
  }

  saveSvg() {
    save(`${this.known.name}.svg`, "image/svg+xml", this.forPrint().text);
  }

  async savePng() {
    const { text, width, height } = this.forPrint();
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(text)}`; // the page's policy allows data
    await image.decode();
    const canvas = el("canvas", { width: SCALE * width, height: SCALE * height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(`${this.known.name}.png`, "image/png", blob));
  }

  saveCsv() {
    const { columns, rows } = this.known.table();
    save(`${this.known.name}.csv`, "text/csv", `${[columns, ...rows].map((row) => row.map(csvCell).join(",")).join("\n")}\n`);
  }
}

function shownCell(cell) {
  if (cell == null) return MISSING;
  if (typeof cell !== "number") return String(cell);
  return Number.isInteger(cell) ? count(cell) : String(Number(cell.toPrecision(4)));
}

/** A cell of CSV. An apostrophe keeps spreadsheets from reading a name as a formula. */
function csvCell(cell) {
  if (cell == null) return "";
  if (typeof cell === "number") return String(cell);
  const text = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A choice among named values: {value: label}. */
function choice(label, values, chosen, listen) {
  const options = Object.entries(values).map(([value, name]) => el("option", { value, selected: value === String(chosen) }, name));
  return el("label", { class: "choice" }, el("span", {}, label), el("select", { onchange: (event) => listen(event.target.value) }, ...options));
}
