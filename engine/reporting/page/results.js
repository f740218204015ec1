// Figures of results: checkpoints of a training run, two localizers, brain regions, lesions.

/** Indices of a result's contrasts: the chosen one if the result has it, else all. */
function shownOf(result, list = result.contrasts) {
  const k = list.findIndex(({ name }) => name === contrasts[chosen.contrast]?.name);
  return k < 0 ? list.map((_, i) => i) : [k];
}

/** A name for files that no other result has. */
const fileName = (result, name) => (results.filter(({ kind }) => kind === result.kind).length > 1 ? `${name}-${results.indexOf(result) + 1}` : name);

/** Rows of a result's table as its numbers; the first columns are the names of layer and contrast. */
function numbersOf(result, table, columns, more = () => true) {
  return {
    columns: ["layer", "contrast", ...columns],
    rows: shownOf(result).flatMap((k) => rowsOf(result, table, k, more).map((row) => [row.layer, result.contrasts[k].name, ...columns.map((name) => row[name])])),
  };
}

/** Points of rows over the layers of a result. */
function overLayers(result, axis, rows, read) {
  return parted(result, rows, (row) => ({ x: axis.at(result, row.layer), apart: result.placeless.has(row.layer), ...read(row) }));
}

const valued = (name, value, low, high, format) => joined(`${name} ${format(value)}`, interval(low, high, format));

const CHECKPOINTS = {
  share: ["Share of selective units", percent, percentTick], csi: ["Held-out CSI", decimal, decimalTick],
  replicated: ["Share selected again on another fold", percent, percentTick], share_of_living: ["Share of living units", percent, percentTick],
  d_prime: ["Held-out d′", decimal, decimalTick], share_with_any: ["Share of maps with any", percent, percentTick],
  entropy: ["Entropy over maps", decimal, decimalTick], gini: ["Gini over maps", decimal, decimalTick],
};

/** Where positions are on an axis from 0 to 1; on a logarithmic one 0 is a step before the others. */
function along({ at }, logarithmic) {
  const least = Math.min(...at.filter((value) => value > 0));
  const step = Math.log(Math.max(...at) / least) / Math.max(1, at.length - 2) || 1;
  const values = logarithmic ? at.map((value) => (value > 0 ? Math.log(value / least) : -step)) : at;
  return values.map(linear([Math.min(...values), Math.max(...values)], [0, 1]));
}

function trainingFigure(redraw, result) {
  const { at, axis, positions, measures } = result;
  const known = at.every((value) => value >= 0) && at.some((value) => value > 0);
  const state = { spacing: known && Math.max(...at) >= 20 * Math.min(...at.filter((value) => value > 0)) ? "log" : "linear" };
  const fromOnset = (row, k) => {
    const onset = rowsOf(result, "onsets", k, (one) => one.layer === row.layer && one.reference === result.reference)[0];
    return onset?.lasting != null && row.network > onset.lasting;
  };
  return {
    title: `Selectivity by ${axis} in a layer`, name: fileName(result, "training"),
    controls: known ? [choice("Spacing", { linear: "linear", log: "logarithmic" }, state.spacing, (value) => { state.spacing = value; redraw(); })] : [],
    table: () => {
      const columns = ["network", axis, "measure", "value", "low", "high"];
      const rows = shownOf(result).flatMap((k) => rowsOf(result, "values", k).map((row) => [
        row.layer, result.contrasts[k].name, result.networks[row.network - 1], at[row.network - 1], row.measure, row.value, row.low, row.high]));
      return { columns: ["layer", "contrast", ...columns], rows };
    },
    picture: (width, theme) => {
      const layer = layerOf(result);
      const where = along(result, state.spacing === "log");
      const x = { ticks: positions.map((label, i) => ({ at: where[i], label })), label: axis, turned: false };
      const series = (measure, k) => ({
        ...styleOf(k, theme, result.contrasts),
        points: rowsOf(result, "values", k, (row) => row.layer === layer && row.measure === measure).map((row) => ({
          ...(measure !== "share" && row.low === row.high ? {} : { y: row.value, low: row.low, high: row.high }), x: where[row.network - 1], hollow: result.reference !== null && !fromOnset(row, k),
          text: `${axis} ${positions[row.network - 1]}, ${result.contrasts[k].name}: ${valued(CHECKPOINTS[measure][0].toLowerCase(), row.value, row.low, row.high, CHECKPOINTS[measure][1])}`,
        })),
      });
      return drawLines({
        label: `Selectivity by ${axis}`, y: { label: `Units of ${layer} by ${axis}. Each panel has its own scale.`, own: true }, columns: 3, least: 300, zero: `0 at every ${axis}`,
        legend: shownOf(result).map((k) => styleOf(k, theme, result.contrasts)),
        panels: measures.map((measure) => ({ title: CHECKPOINTS[measure][0], format: CHECKPOINTS[measure][2], x, series: shownOf(result).map((k) => series(measure, k)) })),
      }, width, theme);
    },
  };
}

const ONSETS = { lasting: ["for good", "from which on the share of selective units is above"], first: ["first", "at which the share of selective units is first above"] };

function onsetsFigure(redraw, result) {
  const { axis, positions } = result;
  const state = { end: "lasting" };
  const references = [...new Set(result.rows.onsets.map((row) => row.reference))];
  const at = (place) => (place == null ? null : positions[place]);
  const above = { untrained: "Above the untrained network", chance: "Above chance" };
  return {
    title: "When selectivity begins", name: fileName(result, "onsets"),
    controls: [choice("Onset", Object.fromEntries(Object.entries(ONSETS).map(([name, [words]]) => [name, words])), state.end, (value) => { state.end = value; redraw(); })],
    table: () => ({
      columns: ["layer", "contrast", "reference", "first", "lasting"],
      rows: shownOf(result).flatMap((k) => rowsOf(result, "onsets", k).map((row) => [row.layer, result.contrasts[k].name, row.reference,
        ...[row.first, row.lasting].map((place) => (place == null ? null : result.at[place]))])),
    }),
    picture: (width, theme) => {
      const shown = shownOf(result);
      const row = (reference, k, layer) => rowsOf(result, "onsets", k, (one) => one.layer === layer && one.reference === reference)[0];
      return drawMatrices({
        label: `The ${axis} ${ONSETS[state.end][1]} a reference`, domain: [0, positions.length - 1], columns: 2, least: 300, side: 460,
        format: (place) => positions[place],
        scale: { low: `${axis} ${positions[0]}`, high: positions.at(-1) },
        panels: references.map((reference) => ({
          title: above[reference], rows: shown.map((k) => result.contrasts[k].name), columns: result.layers,
          values: shown.map((k) => result.layers.map((layer) => row(reference, k, layer)?.[state.end] ?? null)),
          texts: shown.map((k) => result.layers.map((layer) => `${layer}, ${result.contrasts[k].name}: ${at(row(reference, k, layer)?.[state.end]) ?? "never"}`)),
        })),
      }, width, theme);
    },
  };
}

const OVERLAPS = {
  jaccard: ["Jaccard", "Units that both select, of those that either selects (Jaccard)", (both, sum) => both / (sum - both)],
  dice: ["Dice", "Units that both select, twice over the sum of what each selects (Dice)", (both, sum) => (2 * both) / sum],
};

function localizersFigure(redraw, result) {
  const state = { measure: "jaccard" };
  return {
    title: "Units that two localizers select", name: fileName(result, "localizers"),
    controls: [choice("Measure", Object.fromEntries(Object.entries(OVERLAPS).map(([name, [words]]) => [name, words])), state.measure, (value) => { state.measure = value; redraw(); })],
    table: () => numbersOf(result, "overlap", ["other_contrast", "units", "living", "selective", "other_selective", "both",
      ...["jaccard", "dice", "chance", "map_chance"].flatMap((name) => [name, `${name}_low`, `${name}_high`])]),
    picture: (width, theme) => {
      const [name, label, of] = OVERLAPS[state.measure];
      const axis = axisOf([result]);
      const chance = (row) => {
        const from = row.map_chance == null ? "chance" : "map_chance";
        return [from, `${from}_low`, `${from}_high`].map((end) => (row[end] == null ? null : of(row[end], row.selective + row.other_selective)));
      };
      return drawLines({
        label, y: { label: `${label}.${apartIn([result])}`, format: decimalTick }, columns: 3, least: 240, height: 150,
        legend: [{ name: "at random (95 %)", colour: theme.muted, band: 0.3 }],
        panels: shownOf(result).map((k) => ({
          title: result.contrasts[k].name, x: axis,
          bands: [{ colour: theme.muted, points: overLayers(result, axis, rowsOf(result, "overlap", k), (row) => { const [y, low, high] = chance(row); return { y, low, high }; }) }],
          series: [{ ...styleOf(k, theme, result.contrasts), points: overLayers(result, axis, rowsOf(result, "overlap", k), (row) => ({
            y: row[state.measure], low: row[`${state.measure}_low`], high: row[`${state.measure}_high`],
            text: joined(`${row.layer}, ${result.contrasts[k].name}: ${valued(name, row[state.measure], row[`${state.measure}_low`], row[`${state.measure}_high`], bounded)}`,
              `at random ${bounded(chance(row)[0])}`, `${count(row.both)} of ${count(row.selective)} and of ${count(row.other_selective)} units`),
          })) }],
        })),
      }, width, theme);
    },
  };
}

const CROSSED = {
  replicated: ["selected again", "Share of units that are selected again", percent, percentTick], csi: ["CSI", "Mean CSI", decimal, decimalTick],
  d_prime: ["d′", "Mean d′", decimal, decimalTick], auc_normal: ["AUC", "Mean AUC of target against the rest, if responses are normal", decimal, decimalTick],
};

function crossedFigure(redraw, result) {
  const state = { measure: "replicated", selecting: "1" };
  const wanted = (row) => row.measure === state.measure && String(row.selecting) === state.selecting;
  return {
    title: "Units of one localizer, measured by the other", name: fileName(result, "crossed-localizers"),
    controls: [
      choice("Measure", Object.fromEntries(Object.entries(CROSSED).map(([name, [words]]) => [name, words])), state.measure, (value) => { state.measure = value; redraw(); }),
      choice("Chosen by", { 1: result.networks[0], 2: result.networks[1] }, state.selecting, (value) => { state.selecting = value; redraw(); }),
    ],
    table: () => numbersOf(result, "cross_validation", ["other_contrast", "selecting", "measuring", "measure", "units", "value", "low", "high", "within", "within_low", "within_high", "all_units"]),
    picture: (width, theme) => {
      const [name, label, format, tick] = CROSSED[state.measure];
      const axis = axisOf([result]);
      const [own, its] = state.selecting === "1" ? result.networks : [...result.networks].reverse();
      const grey = { colour: theme.muted, marker: DOT, width: 1.25 };
      const line = (k, style, read) => ({ ...style, points: overLayers(result, axis, rowsOf(result, "cross_validation", k, wanted), read) });
      const text = (row, k, words) => `${row.layer}, ${result.contrasts[k].name}: ${words}`;
      return drawLines({
        label, y: { label: `${label}, chosen by ${own}, measured by ${its}.${apartIn([result])}`, format: tick }, columns: 3, least: 240, height: 150,
        legend: [{ name: "within one localizer", ...grey }, { name: "all living units", ...grey, dash: 2 }],
        panels: shownOf(result).map((k) => ({
          title: result.contrasts[k].name, x: axis, series: [
            line(k, styleOf(k, theme, result.contrasts), (row) => ({ ...ofMany(row, row.value, row.low, row.high),
              text: text(row, k, joined(valued(name, row.value, row.low, row.high, format), `${count(row.units)} units`)) })),
            line(k, { ...grey, name: "within", label: "" }, (row) => ({ ...ofMany(row, row.within, row.within_low, row.within_high),
              text: text(row, k, valued(`within one localizer ${name}`, row.within, row.within_low, row.within_high, format)) })),
            line(k, { ...grey, name: "all", label: "", dash: 2 }, (row) => ({ y: row.all_units, text: text(row, k, `all living units ${name} ${format(row.all_units)}`) })),
          ],
        })),
      }, width, theme);
    },
  };
}

const SIGNIFICANT = 0.05;

function regionsFigure(redraw, result) {
  const state = { region: result.regions[0], of: "correlation" };
  const whole = result.contrasts.map((_, k) => k).filter((k) => result.whole.includes(result.contrasts[k].name));
  const shown = () => {
    const some = shownOf(result).filter((k) => !whole.includes(k));
    return some.length ? some : whole;
  };
  const rows = (k) => rowsOf(result, "correlations", k, (row) => row.region === state.region);
  const corrected = () => (state.of === "correlation" ? "p_corrected" : "outside_target_p_corrected");
  const grey = (theme) => ({ colour: theme.muted, marker: DOT, width: 1.25 });
  return {
    title: "Correlation with a brain region", name: fileName(result, "regions"),
    controls: [
      choice("Region", Object.fromEntries(result.regions.map((name) => [name, name])), state.region, (value) => { state.region = value; redraw(); }),
      choice("Target", { correlation: "with", outside_target: "without" }, state.of, (value) => { state.of = value; redraw(); }),
    ],
    table: () => {
      const { columns, rows: all } = numbersOf(result, "correlations", ["region", "units", "correlation", "p", "p_corrected", "outside_target", "outside_target_p",
        "outside_target_p_corrected", "other_units", "random_units", "random_units_low", "random_units_high", "ceiling_low", "ceiling_high"]);
      return { columns: columns.map((name) => (name === "contrast" ? "population" : name)), rows: all };
    },
    picture: (width, theme) => {
      const axis = axisOf([result]);
      const read = (k) => (row) => ({
        y: row[state.of], hollow: !(row[corrected()] <= SIGNIFICANT) || row[corrected()] == null,
        text: joined(`${row.layer}, ${result.contrasts[k].name}: r ${decimal(row[state.of])}`, row[corrected()] != null && `${probability(row[corrected()])} corrected`, `${decimal(row.units)} units`),
      });
      const band = (k, name, style) => ({ colour: theme.muted, ...style, points: overLayers(result, axis, rows(k), (row) => ({ y: row[name], low: row[`${name}_low`], high: row[`${name}_high`] })) });
      const all = shown().flatMap(rows);
      const [controls, ceiling] = [state.of === "correlation" && all.some((row) => row.random_units != null), state.of === "correlation" && all.some((row) => row.ceiling_low != null)];
      return drawLines({
        label: `Correlation with ${state.region}`, columns: 3, least: 240, height: 170,
        y: { label: `Correlation with ${state.region}${state.of === "correlation" ? "" : ", without the target's own"}.${apartIn([result])}`, format: decimalTick },
        legend: [
          ...(whole.length ? [{ name: result.contrasts[whole[0]].name, ...grey(theme) }] : []),
          ...(controls ? [{ name: "random units (95 %)", colour: theme.muted, band: 0.3 }] : []),
          ...(ceiling ? [{ name: "noise ceiling", colour: theme.muted, band: 0.12 }] : []),
        ],
        panels: shown().map((k) => ({
          title: result.contrasts[k].name, x: axis,
          bands: [...(ceiling ? [band(k, "ceiling", { opacity: 0.12, bare: true })] : []), ...(controls ? [band(k, "random_units", { bare: true })] : [])],
          series: [
            ...(state.of === "correlation" ? whole.filter((one) => one !== k).map((one) => ({ ...grey(theme), name: result.contrasts[one].name, label: "", points: overLayers(result, axis, rows(one), (row) => ({ ...read(one)(row), hollow: false })) })) : []),
            { ...styleOf(k, theme, result.contrasts), points: overLayers(result, axis, rows(k), read(k)) },
          ],
        })),
      }, width, theme);
    },
  };
}

function lesionsFigure(redraw, result) {
  const state = { of: "effects" };
  const title = `Lesions of units selective for ${result.contrasts[0].name}`;
  const controls = [...new Set(result.rows.differences.map((row) => row.control))];
  const categories = [...new Set(result.rows.effects.map((row) => row.category))];
  const columns = { effects: ["quantity", "lesion", "category", "stimuli", "intact", "lesioned", "change", "low", "high", "draw_low", "draw_high"], differences: ["quantity", "control", "category", "difference", "low", "high"] };
  return {
    title, name: fileName(result, "lesions"),
    controls: controls.length ? [choice("Show", { effects: "changes", differences: "beyond each control" }, state.of, (value) => { state.of = value; redraw(); })] : [],
    table: () => ({ columns: columns[state.of], rows: result.rows[state.of].map((row) => columns[state.of].map((name) => row[name])) }),
    picture: (width, theme) => {
      const names = state.of === "effects" ? result.lesions : controls;
      const [name, value] = state.of === "effects" ? ["lesion", "change"] : ["control", "difference"];
      const step = 1 / categories.length;
      const styles = names.map((one, i) => ({ name: one, colour: one === result.lesions[0] ? styleOf(0, theme, result.contrasts).colour : theme.muted, marker: i, hollow: one !== result.lesions[0], label: "", opacity: 0.45, unjoined: true }));
      const x = { turned: true, label: "category of the stimuli", ticks: categories.map((label, i) => ({ at: (i + 0.5) * step, label })) };
      const points = (quantity, one, i) => result.rows[state.of].filter((row) => row.quantity === quantity && row[name] === one).flatMap((row) => [
        { x: (categories.indexOf(row.category) + (i + 1) / (names.length + 1)) * step, y: row[value], low: row.low, high: row.high,
          text: `${row.category}, ${one}: ${valued(value, row[value], row.low, row.high, decimal)}` },
        { y: null, low: null }, // intervals of categories are bars, and no line joins them
      ]);
      return drawLines({
        label: title, columns: 3, least: 300, legend: styles, zero: "0 in every category",
        y: { label: state.of === "effects" ? "Change by the lesion: lesioned less intact. Each panel has its own scale." : "Change by the selective units less that by a control. Each panel has its own scale.", format: decimalTick, own: true },
        panels: result.quantities.map((quantity) => ({ title: quantity, x, series: styles.map((style, i) => ({ ...style, points: points(quantity, style.name, i) })) })),
      }, width, theme);
    },
  };
}
