// Figures over depth: a number from layer to layer.

// Means over fewer units are in the tables only.
const FEW = 10;
const SCALES = { shared: "shared", own: "each its own" };
for (const store of stores) store.placeless = new Set(store.placeless.map((i) => store.layers[i]));
for (const result of results) result.placeless = new Set(stores.flatMap((store) => [...store.placeless]));

/** The name of a store that needs one: beside others, or as a control. */
const nameIf = (store) => (several || store.control ? nameOf(store) : "");

/** Points of rows, with a gap between layers with positions and without: they do not compare. */
function parted(store, rows, pointOf) {
  return rows.flatMap((row, i) => {
    const apart = i && store.placeless.has(row.layer) !== store.placeless.has(rows[i - 1].layer);
    return [...(apart ? [{ y: null, low: null }] : []), pointOf(row)];
  });
}

/** What a figure's reader has to know: layers that are apart. */
function apartIn(some) {
  const names = [...new Set(some.flatMap((store) => [...store.placeless]))];
  return names.length ? ` Not joined: layers without positions (${names.length > 3 ? `${names.slice(0, 3).join(", ")}, …` : names.join(", ")}).` : "";
}

/**
 * Lines over layers from rows(store, k). All contrasts: a panel per store. One contrast: one panel for all stores.
 * apart: always a panel per contrast. point(row) -> {y, low, high, text}, band(row) -> {low, high};
 * own: whether each panel has its own vertical axis.
 */
function overDepth({ title, label, tick, rows, point, band, bandName, apart, second, own }) {
  const pointsOf = (store, k, axis, reader) => parted(store, rows(store, k), (row) => {
    const { text, ...read } = reader(row);
    const where = joined(nameIf(store), row.layer, contrasts[k].name);
    return { x: axis.at(store, row.layer), apart: store.placeless.has(row.layer), ...read, text: `${where}: ${text}` };
  });
  return (width, theme) => {
    const shown = shownContrasts();
    const together = apart || shown.length === 1;
    const panels = together
      ? shown.map((k) => ({ title: contrasts[k].name, parts: stores.map((store, s) => [store, k, s]), axis: axisOf(stores) }))
      : stores.map((store) => ({ title: nameIf(store), parts: shown.map((k) => [store, k, 0]), axis: axisOf([store]) }));
    const styled = ([, k, s], more = {}) => ({ ...styleOf(k, theme), ...(together ? storeStyle(s) : {}), ...more });
    const lines = ({ parts, axis }) => parts.flatMap((part) => [
      { ...styled(part), points: pointsOf(part[0], part[1], axis, point) },
      ...(second ? [{ ...styled(part, { ...othersStyle(theme), name: "other categories", label: "" }), points: pointsOf(part[0], part[1], axis, second) }] : []),
    ]);
    const bands = ({ parts, axis }) => (band ? parts.map(([store, k, s]) => ({
      colour: theme.muted, dash: together ? storeStyle(s).dash : 0,
      points: parted(store, rows(store, k), (row) => ({ x: axis.at(store, row.layer), apart: store.placeless.has(row.layer), ...band(row) })),
    })) : []);
    return drawLines({
      label: title, y: { label: `${label}.${own && !together ? " Each panel has its own scale." : ""}${apartIn(stores)}`, format: tick, own: !together && own }, columns: together ? 3 : 2, least: together && shown.length > 1 ? 240 : 300,
      height: together && shown.length > 1 ? 150 : 230,
      legend: [
        ...(together ? [] : shown.map((k) => styleOf(k, theme))),
        ...(together && nameIf(stores[0]) ? storeLegend(theme) : []),
        ...(band ? [{ name: bandName, colour: theme.muted, band: 0.3 }] : []),
        ...(second ? [{ name: "other categories", ...othersStyle(theme) }] : []),
      ],
      panels: panels.map((panel) => ({ title: panel.title, x: panel.axis, series: lines(panel), bands: bands(panel) })),
    }, width, theme);
  };
}

/** The shown rows of a table, preceded by the names of store, layer and contrast. */
function tableOf(columns, source) {
  return {
    columns: [...(several ? ["store"] : []), "layer", "contrast", ...columns],
    rows: stores.flatMap((store) => shownContrasts().flatMap((k) => source(store, k).map((row) => [
      ...(several ? [store.label] : []), row.layer, contrasts[k].name, ...columns.map((column) => row[column]),
    ]))),
  };
}

function shareFigure(redraw) {
  const state = { of: "units", measure: "criterion", place: 0, axes: "shared" };
  const grids = findings.thresholds;
  const output = el("output", { class: "threshold", id: "threshold-value" });
  const slider = el("input", {
    type: "range", min: "0", max: "0", step: "1", "aria-label": "Threshold",
    oninput: (event) => { state.place = Number(event.target.value); say(); redraw(); },
  });
  const beyond = el("label", { class: "choice", hidden: true }, el("span", {}, "Threshold"), slider, output);
  const say = () => {
    const grid = grids[state.measure];
    beyond.hidden = !grid;
    output.textContent = grid ? `${grid.symbol} ${grid.sign} ${grid.at[state.place]}` : "";
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  const measures = { criterion: "as analysed", ...Object.fromEntries(Object.entries(grids).map(([name, grid]) => [name, grid.label])) };
  const scale = choice("Scale", SCALES, state.axes, (value) => { state.axes = value; redraw(); });
  const controls = [
    choice("Share of", { units: "all units", living: "living units" }, "units", (value) => { state.of = value; redraw(); }),
    choice("Criterion", measures, "criterion", (value) => {
      state.measure = value;
      if (grids[value]) {
        slider.max = String(grids[value].at.length - 1);
        state.place = grids[value].first;
        slider.value = String(state.place);
      }
      say();
      redraw();
    }),
    beyond,
    scale,
  ];
  const counted = (row, store) => !grids[state.measure] || store.placed.has(row.layer);
  const rows = (store, k) => rowsOf(store, "shares", k, (row) => counted(row, store)).map((row) => {
    const common = { layer: row.layer, units: row.units, living: row.living };
    if (!grids[state.measure]) {
      const [share, low, high] = state.of === "units" ? [row.share, row.low, row.high] : [row.share_of_living, row.living_low, row.living_high];
      return { ...common, selective: row.selective, share, low, high };
    }
    const found = store.thresholds[state.measure][store.placed.get(row.layer)][k];
    const times = state.of === "units" ? 1 : row.units / row.living;
    const [selective, margin] = [found.selective[state.place], found.margin[state.place] * times];
    const share = row.living || state.of === "units" ? (selective / row.units) * times : null;
    return { ...common, selective, share, low: share && Math.max(0, share - margin), high: share && Math.min(1, share + margin) };
  });
  const rule = () => (grids[state.measure] ? `${grids[state.measure].long} ${grids[state.measure].sign} ${grids[state.measure].at[state.place]}` : findings.criterion).replaceAll("<=", "≤").replaceAll(">=", "≥");
  return {
    title: "Share of selective units by depth", name: "share-by-depth", controls,
    table: () => tableOf(["units", "living", "selective", "share", "low", "high"], rows),
    picture: (width, theme) => {
      scale.hidden = !several || shownContrasts().length === 1; // one category has one panel
      return overDepth({
      title: "Share of selective units by depth", rows, tick: percentTick, own: state.axes === "own",
      label: `Share of ${state.of === "units" ? "all" : "living"} units that are selective on all stimuli (${rule()})`,
      point: (row) => ({
        y: row.share, low: row.low, high: row.high,
        text: joined(percent(row.share), interval(row.low, row.high, percent), `${count(row.selective)} of ${count(row.units)} units`),
      }),
    })(width, theme);
    },
  };
}

const LONG = { csi: "CSI, (a − b) / (|a| + |b|)", d_prime: "d′, difference of means over the root of the mean variance" };
const measureNames = { csi: "CSI", d_prime: "d′" };
const HELD_OUT = "of units selected on one fold of the stimuli, on the other folds";
/** A mean and its interval, unless it is of few units. */
const ofMany = (row, y, low, high) => (row.units < FEW ? {} : { y, low, high });

function specificityFigure(redraw) {
  const state = { measure: "csi" };
  const rows = (store, k) => rowsOf(store, "specificity", k, (row) => row.measure === state.measure);
  return {
    title: "Specificity by depth", name: "specificity-by-depth",
    controls: [choice("Index", measureNames, "csi", (value) => { state.measure = value; redraw(); })],
    table: () => tableOf(["measure", "units", "mean", "low", "high"], rows),
    picture: (width, theme) => overDepth({
      title: "Specificity by depth", rows, tick: decimalTick,
      label: `Mean ${LONG[state.measure]}, ${HELD_OUT}`,
      point: (row) => ({ ...ofMany(row, row.mean, row.low, row.high),
        text: joined(`${measureNames[state.measure]} ${decimal(row.mean)}`, interval(row.low, row.high, decimal), `${count(row.units)} units`) }),
    })(width, theme),
  };
}

const SPREAD = {
  share_with_any: ["share of maps with any", "Share of feature maps with any unit that is selective on all stimuli", percent],
  entropy: ["entropy", "Entropy of selective units over feature maps (1: even)", decimal],
  gini: ["Gini", "Gini coefficient of selective units over feature maps (1: all in one)", decimal],
};

function spreadFigure(redraw) {
  const state = { measure: "share_with_any" };
  const rows = (store, k) => rowsOf(store, "spread", k).map((row) => ({
    ...row, measure: state.measure, value: row[state.measure], chance: row[`${state.measure}_chance`],
    chance_low: row[`${state.measure}_low`], chance_high: row[`${state.measure}_high`],
  }));
  return {
    title: "Spread over feature maps", name: "spread-over-feature-maps",
    controls: [choice("Measure", Object.fromEntries(Object.entries(SPREAD).map(([k, v]) => [k, v[0]])), state.measure, (value) => { state.measure = value; redraw(); })],
    table: () => tableOf(["channels", "with_any", "measure", "value", "chance", "chance_low", "chance_high"], rows),
    picture: (width, theme) => {
      const [name, label, format] = SPREAD[state.measure];
      return overDepth({
        title: "Spread over feature maps", rows, label, tick: format === percent ? percentTick : decimalTick, apart: true,
        bandName: "the same number of random units (95 %)",
        band: (row) => ({ low: row.chance_low, high: row.chance_high }),
        point: (row) => ({ y: row.value,
          text: joined(`${name} ${format(row.value)}`, row.chance != null && `at random ${format(row.chance)} (${format(row.chance_low)} to ${format(row.chance_high)})`, `${count(row.with_any)} of ${count(row.channels)} maps`) }),
      })(width, theme);
    },
  };
}

function strengthFigure() {
  const rows = (store, k) => rowsOf(store, "strength", k);
  return {
    title: "Activation strength of selective units", name: "activation-strength",
    table: () => tableOf(["units", "preferred", "preferred_low", "preferred_high", "others", "others_low", "others_high"], rows),
    picture: (width, theme) => overDepth({
      title: "Activation strength of selective units", rows, tick: decimalTick, apart: true,
      label: `Mean response ${HELD_OUT}, standardised within the layer (z)`,
      point: (row) => ({ ...ofMany(row, row.preferred, row.preferred_low, row.preferred_high),
        text: joined(`preferred ${decimal(row.preferred)}`, interval(row.preferred_low, row.preferred_high, decimal)) }),
      second: (row) => ({ ...ofMany(row, row.others, row.others_low, row.others_high),
        text: joined(`others ${decimal(row.others)}`, interval(row.others_low, row.others_high, decimal)) }),
    })(width, theme),
  };
}
