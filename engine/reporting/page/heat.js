// Matrices as coloured cells: layers by layers, categories by categories, and maps of a layer.

/**
 * panels: [{title, note, rows: [label], columns: [label], values: [[number]], texts: [[text]], ramp}]
 * A panel without labels is a map. domain: [low, high] of all panels, or null for each panel's own.
 * group: number of panels after which a row begins, if they take more than one.
 */
function drawMatrices(spec, width, theme) {
  const plot = new Plot(width, theme);
  let top = plot.paragraph(0, 0, spec.label, { "font-weight": 600 }) + 6;
  const places = grid(width, spec.panels.length, { most: spec.columns ?? 2, least: spec.least ?? 280 });
  const labelled = spec.panels.some((panel) => panel.rows);
  const longest = Math.max(...spec.panels.flatMap((panel) => (panel.rows ?? [""]).map((label) => Math.min(16, label.length))));
  const left = labelled ? Math.min(longest * 6.4 + 8, places.wide * 0.32) : 0;
  const side = Math.min(places.wide - left - 2, spec.side ?? 380);
  const panels = inRows(spec.panels, spec.group > places.columns ? spec.group : places.columns, places.columns);
  const shapes = panels.map((panel) => (panel ? sizeOf(panel, side) : { wide: 0, high: 0 }));
  const below = (labelled ? longest * 4.9 + 14 : 4) + (spec.panels.some((panel) => panel.note) ? 46 : 0);
  let row = 0;
  panels.forEach((panel, index) => {
    if (index && index % places.columns === 0) top += heightOf(shapes, index - places.columns, places.columns) + below + 30;
    if (!panel) return;
    const box = { left: places.left(index) + left, top: top + 22, ...shapes[index] };
    if (panel.title) {
      plot.text(places.left(index), box.top - 8, fitted(panel.title, places.wide, TEXT, 600), { "font-weight": 600, fill: panel.colour ?? theme.ink });
    }
    row = drawCells(plot, panel, box, spec, row);
    if (panel.note) noteBelow(plot, panel.note, box);
  });
  const last = panels.length - 1;
  top += heightOf(shapes, last - (last % places.columns), places.columns) + below + 22;
  return plot.finish(spec.scale ? drawScale(plot, spec, top + 6) : top, spec.label);
}

/** Panels in groups that each begin a row; null fills a group's last row. */
function inRows(panels, group, columns) {
  const rest = panels.length > group ? (columns - (group % columns)) % columns : 0;
  return panels.flatMap((panel, i) => ((i + 1) % group || i + 1 === panels.length ? [panel] : [panel, ...Array(rest).fill(null)]));
}

function noteBelow(plot, note, box) {
  wrapped(note, Math.max(box.wide, 100), 11).slice(0, 3).forEach((line, i) => {
    plot.text(box.left, box.top + box.high + 15 + 14 * i, line, { fill: plot.theme.muted, "font-size": 11 });
  });
}

function sizeOf(panel, side) {
  const [high, wide] = [panel.values.length, panel.values[0]?.length ?? 1];
  const cell = Math.min(side / wide, Math.max(side / Math.max(wide, high), 10));
  return { wide: cell * wide, high: cell * high };
}

const heightOf = (shapes, from, number) => Math.max(...shapes.slice(from, from + number).map((one) => one.high));

function drawCells(plot, panel, box, spec, firstRow) {
  const { theme } = plot;
  const ramp = panel.ramp ?? theme.ramp;
  const high = panel.values.length;
  const wide = panel.values[0]?.length ?? 0;
  const [cellWide, cellHigh] = [box.wide / wide, box.high / high];
  const known = panel.values.flat().filter((value) => value != null);
  const [low, top] = spec.domain ?? [0, Math.max(...known, 0) || 1];
  const written = Boolean(panel.rows) && cellWide >= 34;
  const steps = new Map(); // one path per colour: a few elements instead of thousands
  panel.values.forEach((cells, r) => cells.forEach((value, c) => {
    const share = value == null ? null : (value - low) / (top - low || 1);
    const colour = share == null ? theme.grid : onRamp(ramp, Math.round(share * 24) / 24);
    const [x, y] = [box.left + c * cellWide, box.top + r * cellHigh];
    const d = `M${round2(x)} ${round2(y)}h${round2(cellWide + 0.15)}v${round2(cellHigh + 0.15)}h-${round2(cellWide + 0.15)}z`;
    steps.set(colour, (steps.get(colour) ?? "") + d);
  }));
  for (const [colour, d] of steps) plot.add("path", { d, fill: colour });
  panel.values.forEach((cells, r) => cells.forEach((value, c) => {
    const [x, y] = [box.left + (c + 0.5) * cellWide, box.top + (r + 0.5) * cellHigh];
    plot.mark(firstRow + r, { x, y, r: Math.max(4, cellWide / 2), square: [cellWide, cellHigh], text: panel.texts[r][c] });
    if (written && value != null) {
      const on = onRamp(ramp, Math.round(((value - low) / (top - low || 1)) * 24) / 24);
      plot.text(x, y + 4, spec.format(value), { "text-anchor": "middle", fill: readableOn(on), "font-size": 11 });
    }
  }));
  plot.add("rect", { x: round(box.left), y: round(box.top), width: round(box.wide), height: round(box.high), fill: "none", stroke: theme.grid });
  if (panel.rows) drawLabels(plot, panel, box, cellWide, cellHigh);
  return firstRow + high;
}

function drawLabels(plot, panel, box, cellWide, cellHigh) {
  const style = { fill: plot.theme.muted, "font-size": 11, "text-anchor": "end" };
  const every = Math.max(1, Math.ceil(11 / cellHigh));
  panel.rows.forEach((label, r) => {
    if (r % every === 0) plot.text(box.left - 6, box.top + (r + 0.5) * cellHigh + 4, shortened(label, 16), style);
  });
  panel.columns.forEach((label, c) => {
    if (c % every) return;
    const [x, y] = [round(box.left + (c + 0.5) * cellWide + 3), round(box.top + box.high + 9)];
    plot.text(x, y, shortened(label, 16), { ...style, transform: `rotate(-50 ${x} ${y})` });
  });
}

const round2 = (value) => Math.round(value * 100) / 100;

/** The colour scale. */
function drawScale(plot, spec, y) {
  const room = widthOf(spec.scale.high) + widthOf(spec.scale.low) + 20;
  const [wide, parts, left] = [Math.max(40, Math.min(220, plot.width - room)), 24, widthOf(spec.scale.low) + 8];
  for (let i = 0; i < parts; i += 1) {
    plot.add("rect", {
      x: round2(left + (i * wide) / parts), y, width: round2(wide / parts + 0.3), height: 10,
      fill: onRamp(spec.scale.ramp ?? plot.theme.ramp, i / (parts - 1)),
    });
  }
  plot.text(left - 6, y + 9, spec.scale.low, { "text-anchor": "end", fill: plot.theme.muted });
  plot.text(left + wide + 6, y + 9, fitted(spec.scale.high, plot.width - left - wide - 6), { fill: plot.theme.muted });
  return y + 20;
}
