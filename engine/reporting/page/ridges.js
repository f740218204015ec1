// Stacked distributions: a histogram per category, with its quantiles below.

/**
 * panels: [{title, ridges: [{name, colour, marker, edges, counts, quantiles: [5, 25, 50, 75, 95 %], mean, low, high, text}]}]
 */
function drawRidges(spec, width, theme) {
  const plot = new Plot(width, theme);
  const top = plot.paragraph(0, 0, spec.label, { "font-weight": 600 }) + 4;
  const filled = (panel) => panel.ridges.filter((ridge) => ridge.counts.length);
  const [panels, start] = drawable(plot, spec.panels, (panel) => (filled(panel).length ? null : FEW_OR_NONE), top);
  const places = grid(width, panels.map(() => 0), { most: spec.columns ?? 2, least: 300 });
  const each = 58;
  const tops = [start]; // of rows of panels: each as high as its fullest
  for (let r = 0; r < places.rows; r += 1) {
    const most = Math.max(...panels.filter((_, i) => places.row(i) === r).map((panel) => filled(panel).length));
    tops.push(tops[r] + 102 + most * each);
  }
  let row = 0;
  panels.forEach((panel, index) => {
    const ridges = filled(panel);
    const left = places.left(index) + Math.min(92, places.wide * 0.27);
    const right = places.left(index) + places.wide - 10;
    const head = tops[places.row(index)] + 24;
    const foot = head + ridges.length * each;
    const x = linear(spec.domain, [left, right]);
    plot.text(places.left(index), head - 10, fitted(panel.title, places.wide, TEXT, 600), { "font-weight": 600 });
    for (const tick of ticks(...spec.domain, 5)) {
      plot.add("path", { d: `M${round(x(tick))} ${head}V${foot}`, stroke: tick === 0 ? theme.muted : theme.grid });
      plot.text(x(tick), foot + 16, decimal(tick), { "text-anchor": "middle", fill: theme.muted });
    }
    plot.text((left + right) / 2, foot + 33, spec.xLabel, { "text-anchor": "middle", fill: theme.muted });
    const few = panel.ridges.filter((ridge) => !ridge.counts.length).map((ridge) => (ridge.units ? `${ridge.name} (${ridge.units})` : ridge.name));
    if (few.length) noteBelow(plot, `No or too few selective units: ${few.join(", ")}`, { left: places.left(index), wide: places.wide, top: foot, high: 36 }, 2);
    ridges.forEach((ridge, i) => {
      drawRidge(plot, ridge, { base: head + (i + 1) * each - 16, high: each - 22, left, x, start: places.left(index) });
      plot.mark(row, { x: x(ridge.mean ?? spec.domain[0]), y: head + (i + 1) * each - 10, r: 9, text: ridge.text });
    });
    row += 1;
  });
  return plot.finish(tops.at(-1), spec.label);
}

function drawRidge(plot, ridge, { base, high, left, x, start }) {
  const { theme } = plot;
  plot.text(start, base - 6, fitted(ridge.name, left - start - 6), { fill: theme.ink });
  plot.text(start, base + 8, `n = ${count(ridge.units)}`, { fill: theme.muted, "font-size": 10.5 });
  plot.add("path", { d: `M${round(left)} ${base}H${round(x.right ?? x(1))}`, stroke: theme.grid });
  const most = Math.max(...ridge.counts);
  let d = `M${round(x(ridge.edges[0]))} ${base}`;
  ridge.counts.forEach((number, i) => {
    d += `V${round(base - (number / most) * high)}H${round(x(ridge.edges[i + 1]))}`;
  });
  plot.add("path", { d: `${d}V${base}z`, fill: ridge.colour, "fill-opacity": 0.35, stroke: ridge.colour, "stroke-width": 1.25 });
  const [q5, q25, q50, q75, q95] = ridge.quantiles.map((value) => round(x(value)));
  plot.add("path", { d: `M${q5} ${base + 6}H${q95}`, stroke: ridge.colour, "stroke-width": 1.5 });
  plot.add("path", { d: `M${q25} ${base + 6}H${q75}`, stroke: ridge.colour, "stroke-width": 5 });
  plot.add("path", { d: `M${q50} ${base + 1}v10`, stroke: theme.paper, "stroke-width": 3.5 });
  plot.add("path", { d: `M${q50} ${base + 1}v10`, stroke: theme.ink, "stroke-width": 1.75 });
}
