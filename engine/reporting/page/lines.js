// Lines with intervals over layers, in panels that share a vertical axis.

const LEFT = 50;
const LABEL = 11; // size of names of layers and lines
const FEW_OR_NONE = "no or too few selective units";

/**
 * panels: [{title, x: {ticks: [{at, label}], label}, format, series, bands}]
 * series: [{name, label, colour, dash, hollow, marker, opacity, points: [{x, y, low, high, apart, hollow, text}]}], x from 0 to 1;
 * several series of a panel have their label, or else their name, at their end; points apart may lie beyond the axis
 * bands: [{colour, opacity, bare, points: [{x, low, high}]}], drawn behind; bare ones without a line
 */
function drawLines(spec, width, theme) {
  const plot = new Plot(width, theme);
  let top = plot.paragraph(0, 0, spec.y.label, { "font-weight": 600 }) + 4;
  top = plot.legend(spec.legend, top) + 4;
  const hasZero = (one) => one.points.some(({ y }) => y === 0);
  const nothing = (panel) => (panel.series.some((one) => !isZero(one)) ? null : panel.series.some(hasZero) ? "nothing is selective" : FEW_OR_NONE);
  const [panels, start] = drawable(plot, spec.panels, nothing, top);
  const places = grid(width, panels.map(() => 0), { most: spec.columns ?? 2, least: spec.least ?? 300 });
  const shared = domainOf(valuesOf(panels));
  const zeros = panels.map((panel) => zeroNames(panel, spec.zero ?? "0 in every layer"));
  const below = 18 + Math.max(0, ...panels.map((panel) => roomBelow(panel.x))) + (zeros.some(Boolean) ? 34 : 0);
  const high = Math.max(spec.height ?? 220, ...panels.map((panel) => labelled(panel).length * (LABEL + 2)));
  const whole = 24 + high + below;
  const domainFor = (panel) => (spec.y.own ? domainOf(valuesOf([panel])) : shared);
  const formatOf = (panel) => panel.format ?? spec.y.format;
  const beyondAtEnd = (panel, one) => beyond(one.points.findLast((p) => p.y != null), domainFor(panel), formatOf(panel));
  const endWidth = (panel, one) => widthOf(`${labelOf(one)} ${beyondAtEnd(panel, one)}`.trim(), LABEL);
  const most = panels.some((panel) => labelled(panel).some((one) => beyondAtEnd(panel, one))) ? 0.36 : 0.27;
  const gutter = Math.max(0, ...panels.flatMap((panel) => labelled(panel).map((one) => endWidth(panel, one)))) + 16;
  let row = 0;
  panels.forEach((panel, index) => {
    const box = {
      left: places.left(index) + LEFT, right: places.left(index) + places.wide - 8,
      top: start + places.row(index) * whole + 24,
    };
    box.bottom = box.top + high;
    if (labelled(panel).length) box.right -= Math.min(gutter, places.wide * most) - 4;
    const domain = domainFor(panel);
    const along = linear(domain, [box.bottom, box.top]);
    const y = (value) => Math.max(box.top, Math.min(box.bottom, along(value)));
    const x = linear([0, 1], [box.left + 8, box.right - 8]);
    drawFrame(plot, panel, box, domain, formatOf(panel), x, y);
    for (const band of panel.bands ?? []) {
      ribbon(plot, band.points, x, y, band.colour, band.opacity ?? 0.28);
      const middle = unbroken(band.points, "low").map((part) => part.map((p) => [x(p.x), y(p.y ?? (p.low + p.high) / 2)]));
      for (const part of band.bare ? [] : middle) plot.line(part, { ...band, width: 1 });
    }
    for (const one of panel.series) ribbon(plot, one.points, x, y, one.colour, one.opacity ?? 0.16);
    for (const one of panel.series) row = drawSeries(plot, one, box, x, y, row, panel);
    drawNames(plot, labelled(panel), box, x, y, places.left(index) + places.wide, (one) => beyondAtEnd(panel, one));
    drawBeyond(plot, panel, domain, formatOf(panel), x, y);
    noteBelow(plot, zeros[index], { left: box.left, wide: places.wide - LEFT, top: box.bottom, high: roomBelow(panel.x) + 3 }, 2);
  });
  return plot.finish(start + places.rows * whole, spec.label);
}

/** The line and markers of a series; the next row of marks. */
function drawSeries(plot, one, box, x, y, row, panel) {
  const known = one.points.filter((p) => p.y != null);
  const size = box.right - box.left < 320 && panel.x.ticks.length > 10 ? 0.8 : 1;
  const most = Math.max(0, ...panel.series.map(({ points }) => points.length));
  const every = most > (box.right - box.left) / 4 ? Math.ceil(most / 12) : 1; // markers would hide the lines
  const lies = isZero(one);
  plot.group({ "data-panel": panel.title, "data-series": joined(one.label, one.name) }, () => {
    for (const part of lies ? [] : unbroken(one.points)) plot.line(part.map((p) => [x(p.x), y(p.y)]), every > 1 ? { ...one, width: 1.25 } : one);
    for (const [i, p] of known.entries()) {
      if (i % every === 0 && !lies) plot.marker(x(p.x), y(p.y), { ...one, hollow: p.hollow ?? one.hollow }, size);
      plot.mark(row, { x: x(p.x), y: y(p.y), r: 8, text: p.text });
    }
  });
  return known.length ? row + 1 : row;
}

const labelOf = (one) => one.label ?? one.name;

const isZero = (one) => one.points.every((p) => !p.y);

/** The series of a panel that are named at their end: all that are drawn and have a name, if they are several. */
function labelled(panel) {
  const named = panel.series.filter((one) => labelOf(one) && !isZero(one));
  return named.length > 1 ? named : [];
}

/** Lines that would hide one another on the axis, in words. */
function zeroNames(panel, said) {
  const names = panel.series.filter((one) => isZero(one) && one.points.some((p) => p.y != null)).map(labelOf);
  return names.length ? `${said}: ${names.join(", ")}` : "";
}

/** Names at the ends of lines, moved apart so that none touches another; short of room the name is cut, never its value. */
function drawNames(plot, series, box, x, y, right, beyondAtEnd) {
  const ends = series.map((one) => ({ one, last: one.points.findLast((p) => p.y != null) }))
    .sort((a, b) => y(a.last.y) - y(b.last.y) || series.indexOf(a.one) - series.indexOf(b.one));
  const apart = LABEL + 1.5;
  ends.forEach((end, i) => { end.at = Math.max(y(end.last.y), i ? ends[i - 1].at + apart : box.top); });
  ends.reverse().forEach((end, i) => { end.at = Math.min(end.at, i ? ends[i - 1].at - apart : box.bottom); });
  for (const { one, last, at } of ends) {
    const from = x(last.x) + 5;
    plot.add("path", { d: `M${round(from)} ${round(y(last.y))}L${round(box.right + 4)} ${round(at)}`, fill: "none", stroke: one.colour, "stroke-width": 0.75, "stroke-opacity": 0.6 });
    const value = ` ${beyondAtEnd(one)}`.trimEnd();
    plot.text(box.right + 7, at + 4, fitted(labelOf(one), right - box.right - 7 - widthOf(value, LABEL), LABEL) + value, { "font-size": LABEL, class: "end" });
  }
}

/** The value of a point beyond the axis, with an arrow; empty within. */
function beyond(point, [low, high], format) {
  if (point.y <= high && point.y >= low) return "";
  return `${point.y > high ? "↑" : "↓"} ${asTicks(format, point.y)}`;
}

/** The values of points beyond the axis that no name at the end of a line has. */
function drawBeyond(plot, panel, domain, format, x, y) {
  const said = new Map();
  for (const one of panel.series) {
    const known = one.points.filter((p) => p.y != null);
    for (const point of labelled(panel).includes(one) ? known.slice(0, -1) : known) {
      const value = beyond(point, domain, format);
      const place = [round(x(point.x) - 8), round(y(point.y) + 4)].join(" ");
      if (value) said.set(place, joined(said.get(place), value));
    }
  }
  for (const [place, values] of said) plot.text(...place.split(" ").map(Number), values, { "font-size": LABEL, "text-anchor": "end" });
}

/** What an axis covers: all points, but those apart only up to twice the others, which they would flatten. */
function valuesOf(panels) {
  const points = panels.flatMap((panel) => [...panel.series, ...(panel.bands ?? [])].flatMap((one) => one.points));
  const values = (some) => some.flatMap(({ y, low, high }) => [y, low, high]).filter(Number.isFinite);
  const joinedUp = values(points.filter((point) => !point.apart));
  const most = 2 * Math.max(...joinedUp.map(Math.abs));
  return [...joinedUp, ...values(points.filter((point) => point.apart)).filter((value) => !most || !joinedUp.length || Math.abs(value) <= most)];
}

function drawFrame(plot, panel, box, domain, format, x, y) {
  const { theme } = plot;
  if (panel.title) {
    plot.text(box.left - LEFT, box.top - 10, fitted(panel.title, box.right - box.left + LEFT, TEXT, 600), { "font-weight": 600 });
  }
  for (const tick of ticks(...domain)) {
    plot.add("path", { d: `M${round(box.left)} ${round(y(tick))}H${round(box.right)}`, stroke: tick === 0 ? theme.muted : theme.grid });
    plot.text(box.left - 7, y(tick) + 4, format(tick), { "text-anchor": "end", fill: theme.muted });
  }
  const room = (box.right - box.left) / Math.max(1, panel.x.ticks.length - 1);
  const every = panel.x.turned ? Math.max(1, Math.ceil(13 / room)) : 1;
  const named = panel.x.turned ? new Set() : apartFrom(panel.x.ticks, x);
  panel.x.ticks.forEach(({ at, label }, i) => {
    if (i % every && room < 3) return;
    plot.add("path", { d: `M${round(x(at))} ${round(box.bottom)}v4`, stroke: theme.muted });
    if (panel.x.turned ? i % every : !named.has(i)) return;
    const place = [round(x(at)), round(box.bottom + (panel.x.turned ? 12 : 18))];
    plot.text(...place, shortened(label, 16), {
      fill: theme.muted, "font-size": LABEL, "text-anchor": panel.x.turned ? "end" : "middle",
      transform: panel.x.turned ? `rotate(-50 ${place.join(" ")})` : null,
    });
  });
  plot.text((box.left + box.right) / 2, box.bottom + roomBelow(panel.x), panel.x.label, { fill: theme.muted, "text-anchor": "middle" });
}

/** Level names of ticks that do not touch: the last, the first, and what fits between. */
function apartFrom(ticks, x) {
  const kept = [];
  const half = (i) => widthOf(ticks[i].label, LABEL) / 2 + 3;
  for (const i of [ticks.length - 1, ...ticks.keys()]) {
    if (kept.every((other) => Math.abs(x(ticks[i].at) - x(ticks[other].at)) >= half(i) + half(other))) kept.push(i);
  }
  return new Set(kept);
}

function roomBelow(x) {
  const longest = Math.max(...x.ticks.map(({ label }) => Math.min(16, label.length)));
  return x.turned ? 30 + longest * 4.9 : 36;
}

function ribbon(plot, points, x, y, colour, opacity) {
  for (const part of unbroken(points, "low")) {
    const over = part.map((p) => `${round(x(p.x))} ${round(y(p.high))}`);
    const under = part.map((p) => `${round(x(p.x))} ${round(y(p.low))}`).reverse();
    if (part.length > 1) {
      plot.add("path", { d: `M${[...over, ...under].join("L")}z`, fill: colour, "fill-opacity": opacity });
    } else {
      plot.add("path", { d: `M${over[0]}L${under[0]}`, stroke: colour, "stroke-width": 4, "stroke-opacity": opacity });
    }
  }
}

/** Runs of consecutive points with known values. */
function unbroken(points, key = "y") {
  const runs = [[]];
  for (const point of points) {
    if (point[key] == null) runs.push([]);
    else runs.at(-1).push(point);
  }
  return runs.filter((run) => run.length);
}
