// Figures of one layer (distributions, maps, overlap), and the matrix of layers by layers.

const titleAt = (store) => (nameIf(store) ? `${nameOf(store)}: ${layerOf(store)}` : layerOf(store));
const rowAt = (store, table, k, more) => rowsOf(store, table, k, more).find((row) => row.layer === layerOf(store));

function distributionFigure(redraw) {
  const state = { measure: "csi" };
  const all = (store, k) => [rowAt(store, "specificity", k, (row) => row.measure === state.measure)].filter(Boolean);
  const ridge = (store, k, theme) => {
    const row = all(store, k)[0];
    const edges = findings.edges[state.measure];
    const name = measureNames[state.measure];
    if (!row?.units) return { ...styleOf(k, theme), edges, counts: [], quantiles: [], units: 0, text: `${contrasts[k].name}: none` };
    const middle = row.quantiles?.[2];
    return { ...styleOf(k, theme), edges, counts: row.units < FEW ? [] : row.histogram, quantiles: row.quantiles ?? [], mean: row.mean, units: row.units,
      text: joined(`${titleAt(store)}, ${contrasts[k].name}: median ${name} ${decimal(middle)}`,
        row.quantiles && `middle half ${decimal(row.quantiles[1])} to ${decimal(row.quantiles[3])}`, `mean ${decimal(row.mean)}`, `${count(row.units)} units`) };
  };
  return {
    title: "Distribution of specificity in a layer", name: "specificity-in-layer",
    controls: [choice("Index", measureNames, "csi", (value) => { state.measure = value; redraw(); })],
    table: () => {
      const edges = findings.edges[state.measure];
      const binned = (store, k) => all(store, k).flatMap((row) => (row.histogram ?? [null]).map((number, i) => ({ ...row,
        ...Object.fromEntries(["q5", "q25", "q50", "q75", "q95"].map((name, q) => [name, row.quantiles?.[q]])),
        bin_from: row.histogram && edges[i], bin_to: row.histogram && edges[i + 1], units_in_bin: number })));
      return tableOf(["measure", "units", "mean", "low", "high", "q5", "q25", "q50", "q75", "q95", "bin_from", "bin_to", "units_in_bin"], binned);
    },
    picture: (width, theme) => drawRidges({
      label: `${LONG[state.measure]}, ${HELD_OUT}`,
      xLabel: measureNames[state.measure],
      domain: [findings.edges[state.measure][0], findings.edges[state.measure].at(-1)],
      panels: stores.map((store) => ({ title: titleAt(store), ridges: shownIn(store).map((k) => ridge(store, k, theme)) }))
        .filter(({ ridges }) => ridges.length),
    }, width, theme),
  };
}

function mapsFigure(redraw) {
  const state = { axes: "shared" };
  const panel = (store, k, theme) => {
    const row = rowAt(store, "localisation", k);
    const style = styleOf(k, theme);
    const title = joined(contrasts[k].name, several && store.letter);
    if (!row?.map) return { title, empty: `${layerOf(store)} has no positions` };
    const texts = row.map.map((cells, y) => cells.map((share, x) => `${contrasts[k].name}, ${titleAt(store)}, y ${y}, x ${x}: ${percent(share)} of units`));
    const most = Math.max(...row.map.flat());
    return { title, group: store, empty: most ? null : "nothing is selective", colour: style.colour, values: row.map, texts, ramp: [theme.ground, style.colour],
      note: joined(store.control, row.places < 2 ? `one position: ${percent(most)}` : joined(`max ${percent(most)}`, row.moran_i != null && `I ${decimal(row.moran_i)}`)) };
  };
  const rows = (store, k) => [rowAt(store, "localisation", k)].filter(Boolean);
  return {
    title: "Maps of selective units", name: "maps",
    controls: [choice("Scale", SCALES, state.axes, (value) => { state.axes = value; redraw(); })],
    table: () => {
      const flat = (store, k) => rows(store, k).flatMap((row) => (row.map ?? []).flatMap((cells, y) => cells.map((share, x) => ({ ...row, y, x, share }))));
      return tableOf(["entropy", "moran_i", "expected", "p", "y", "x", "share"], flat);
    },
    picture: (width, theme) => {
      const panels = stores.flatMap((store) => shownIn(store).map((k) => panel(store, k, theme)));
      const most = Math.max(0, ...panels.flatMap((one) => one.values?.flat() ?? []));
      const own = state.axes === "own";
      return drawMatrices({
        label: `Share of units selective on all stimuli at each position of the layer${own ? "; each map has its own scale" : ""}: ${stores.map(titleAt).join("; ")}`,
        panels, columns: Math.max(shownContrasts().length, 2), least: 108, side: 200, format: percent, domain: own ? null : [0, most || 1],
        scale: { low: "0", high: own ? "the map's own max" : percent(most), ramp: [theme.ground, theme.muted] },
      }, width, theme);
    },
  };
}

const OVERLAP = {
  jaccard: "units selective for both over units selective for either (Jaccard), on all stimuli",
  ratio: "units selective for both over the number expected by independence, on all stimuli",
  confusion: "preferred category on one fold (rows) and on the other (columns)",
};

const EXCLUDED = ". Grey: none by construction, for no unit responds more to each of two categories than to the other. With the baseline pooled (test “rest”) a unit can be selective for both.";

function overlapFigure(redraw) {
  const state = { measure: stores.some((store) => store.rows.confusion.length) ? "confusion" : "jaccard" };
  const values = (store) => {
    const layer = layerOf(store);
    const cells = contrasts.map(() => contrasts.map(() => null));
    if (state.measure === "confusion") {
      for (const row of store.rows.confusion) if (row.layer === layer) cells[row.category][row.other] = row.share;
      return cells;
    }
    for (const row of store.rows.overlap) {
      if (row.layer !== layer || row.exclusive) continue;
      const value = state.measure === "jaccard" ? row.jaccard : row.expected ? row.both / row.expected : null;
      cells[row.contrast][row.other] = value;
      cells[row.other][row.contrast] = value;
    }
    return cells;
  };
  const format = { confusion: percent, jaccard: bounded, ratio: decimal };
  const isExcluded = () => state.measure !== "confusion" && stores.some((store) => store.rows.overlap.some((row) => row.exclusive));
  const names = contrasts.map((one) => one.name);
  const available = Object.fromEntries(Object.entries({ jaccard: "Jaccard", ratio: "observed over expected", confusion: "preferred category, fold by fold" })
    .filter(([name]) => name !== "confusion" || stores.some((store) => store.rows.confusion.length)));
  return {
    title: "Overlap of categories in a layer", name: "overlap",
    controls: [choice("Measure", available, state.measure, (value) => { state.measure = value; redraw(); })],
    table: () => ({
      columns: [...(several ? ["store"] : []), "layer", "contrast", "other", state.measure],
      rows: stores.flatMap((store) => values(store).flatMap((cells, i) => cells.map((value, j) => [
        ...(several ? [store.label] : []), layerOf(store), names[i], names[j], value]))),
    }),
    picture: (width, theme) => {
      const all = stores.map(values);
      const top = state.measure === "ratio" ? Math.max(1, ...all.flat(2).filter((value) => value != null)) : 1;
      return drawMatrices({
        label: `Overlap: ${OVERLAP[state.measure]}${isExcluded() ? EXCLUDED : ""}`, domain: [0, top], format: format[state.measure], side: 300,
        scale: { low: format[state.measure](0), high: format[state.measure](top) },
        panels: stores.map((store, s) => ({ title: titleAt(store), rows: names, columns: names, values: all[s],
          texts: all[s].map((cells, i) => cells.map((value, j) => `${titleAt(store)}, ${names[i]} and ${names[j]}: ${format[state.measure](value)}`)) })),
      }, width, theme);
    },
  };
}

const ACROSS = ", one fold against another";
const CONSISTENCY = Object.fromEntries(Object.entries({ spearman: "Spearman's ρ of category RDMs", kendall: "Kendall's τ of category RDMs", cka: "CKA of category means", cka_unbiased: "Unbiased CKA of category means" })
  .flatMap(([name, words]) => [[name, words], [`${name}_folds`, words + ACROSS]]));

function consistencyFigure(redraw) {
  const known = Object.keys(CONSISTENCY).filter((name) => stores.some((store) => store.consistency[name]));
  if (!known.length) return null;
  const state = { measure: known[0] };
  const shown = () => stores.filter((store) => store.consistency[state.measure]);
  return {
    title: "Consistency between layers", name: "consistency",
    controls: [choice("Measure", Object.fromEntries(known.map((name) => [name, CONSISTENCY[name]])), known[0], (value) => { state.measure = value; redraw(); })],
    table: () => ({
      columns: [...(several ? ["store"] : []), "layer", "other", state.measure],
      rows: shown().flatMap((store) => store.consistency[state.measure].flatMap((cells, i) => cells.map((value, j) => [
        ...(several ? [store.label] : []), store.detailed[i], store.detailed[j], value]))),
    }),
    picture: (width, theme) => {
      const all = shown().flatMap((store) => store.consistency[state.measure].flat()).filter((value) => value != null);
      const low = all.some((value) => value < -0.005) ? -1 : 0;
      const ramp = low ? theme.diverging : theme.ramp;
      const numbers = [...new Set(shown().map((store) => store.categories))];
      return drawMatrices({
        label: `Consistency between layers: ${CONSISTENCY[state.measure]}, from ${numbers.join(" or ")} categories`, domain: [low, 1], format: bounded, side: 420,
        scale: { low: String(low), high: "1", ramp },
        panels: shown().map((store) => ({
          title: nameOf(store), ramp, rows: store.detailed, columns: store.detailed, values: store.consistency[state.measure],
          texts: store.consistency[state.measure].map((cells, i) => cells.map((value, j) => `${joined(nameIf(store), `${store.detailed[i]} and ${store.detailed[j]}`)}: ${bounded(value)}`)),
        })),
      }, width, theme);
    },
  };
}
