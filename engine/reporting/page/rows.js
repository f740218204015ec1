// The findings: rows by store, layer and contrast, and the current choices.

const findings = JSON.parse(document.getElementById("findings").textContent);
const { contrasts, stores, results } = findings;

/** The current choices: a contrast (-1 for all), a layer by name, the horizontal axis. */
const chosen = { contrast: -1, layer: null, axis: "layer" };

// Tables come as columns, layers and contrasts as indices into their lists.
for (const store of [...stores, ...results]) {
  store.detailed ??= store.layers.map((_, i) => i); // a result has all layers
  store.depth = new Map(store.layers.map((name, i) => [name, store.layers.length > 1 ? i / (store.layers.length - 1) : 0]));
  store.detailed = store.detailed.map((i) => store.layers[i]); // layers that are shown one by one
  store.placed = new Map(store.detailed.map((name, i) => [name, i]));
  store.rows = {};
  for (const [name, columns] of Object.entries(store.tables)) {
    const keys = Object.keys(columns);
    const rows = (columns[keys[0]] ?? []).map((_, i) => Object.fromEntries(keys.map((key) => [key, columns[key][i]])));
    for (const row of rows) row.layer = store.layers[row.layer];
    store.rows[name] = rows;
  }
}

/** Rows of a store's table for a contrast, in the order of layers. */
function rowsOf(store, table, contrast, more = () => true) {
  return store.rows[table].filter((row) => row.contrast === contrast && more(row));
}

/** The chosen layer of a store: by name, or the nearest in relative depth. */
function layerOf(store, name = chosen.layer) {
  if (store.placed.has(name)) return name;
  const depth = stores.find((other) => other.depth.has(name))?.depth.get(name) ?? 1;
  const far = (layer) => Math.abs(store.depth.get(layer) - depth);
  return store.detailed.reduce((best, layer) => (far(layer) < far(best) ? layer : best));
}

/** Layers of some stores in one order, by mean relative depth. */
function layersOf(some) {
  const depths = new Map();
  for (const store of some) {
    for (const [name, depth] of store.depth) depths.set(name, [...(depths.get(name) ?? []), depth]);
  }
  const mean = (list) => list.reduce((sum, one) => sum + one, 0) / list.length;
  return [...depths].map(([name, list], i) => ({ name, depth: mean(list), i }))
    .sort((a, b) => a.depth - b.depth || a.i - b.i).map(({ name }) => name);
}

/** The horizontal axis of some stores: its ticks, and the position of a layer from 0 to 1. */
function axisOf(some) {
  if (chosen.axis === "depth") {
    return {
      ticks: [0, 0.25, 0.5, 0.75, 1].map((at) => ({ at, label: String(at) })),
      label: "Relative depth (0: first layer scanned, 1: last)", turned: false,
      at: (store, layer) => store.depth.get(layer),
    };
  }
  const names = layersOf(some);
  const at = new Map(names.map((name, i) => [name, names.length > 1 ? i / (names.length - 1) : 0.5]));
  return {
    ticks: names.map((name) => ({ at: at.get(name), label: name })), label: "Layer, from input to output",
    turned: true, at: (_, layer) => at.get(layer),
  };
}

/** Indices of the chosen contrasts. */
function shownContrasts() {
  return chosen.contrast < 0 ? contrasts.map((_, k) => k) : [chosen.contrast];
}

/** Those that a store was asked for: others may have other categories. */
const shownIn = (store) => shownContrasts().filter((k) => rowsOf(store, "shares", k).length);

const several = stores.length > 1;
const nameOf = (store) => (several ? store.label : store.model);
const styleOf = (k, theme, list = contrasts) => ({ name: list[k].name, colour: list[k][theme.name], marker: list[k].marker, dash: list[k].dash });
/** The style of a store among others in a panel: a dash, and filled or hollow markers. */
const storeStyle = (s) => ({ label: stores[s].letter, dash: s % DASHES.length, hollow: (s + Math.floor(s / DASHES.length)) % 2 > 0 });
const storeLegend = (theme) => stores.map((store, s) => ({ name: nameOf(store), colour: theme.ink, marker: 0, ...storeStyle(s) }));
/** The style of the other categories beside a preferred one. */
const othersStyle = (theme) => ({ colour: theme.muted, marker: DOT, width: 1.25 });
