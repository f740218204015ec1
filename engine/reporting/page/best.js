// The stimuli that drive the strongest units most and least.

function bestFigure() {
  const shown = () => stores.flatMap((store) => shownContrasts().flatMap((k) => (
    (store.rows.best ?? []).filter((row) => row.contrast === k && row.layer === layerOf(store)).map((row) => ({ store, k, row }))
  )));
  const picture = ({ stimulus, response }) => {
    const { name, category, image } = findings.stimuli[stimulus];
    const words = joined(name, category, `response ${decimal(response)}`);
    return el("li", {}, image ? el("img", { src: image, alt: words, title: words, width: 72, height: 72 }) : el("span", { class: "unseen", title: words }, words),
      el("span", { class: "under", "aria-hidden": "true" }, decimal(response)));
  };
  const strip = (label, list) => el("div", { class: "strip" }, el("span", { class: "strip-label" }, label), el("ul", { "aria-label": label }, ...list.map(picture)));
  return {
    title: "Stimuli that drive the strongest units", name: "best-stimuli",
    table: () => ({
      columns: [...(several ? ["store"] : []), "layer", "contrast", "unit", "auc", "held_out", "drives", "rank", "stimulus", "category", "response"],
      rows: shown().flatMap(({ store, k, row }) => ["most", "least"].flatMap((drives) => row[drives].map(({ stimulus, response }, rank) => [
        ...(several ? [store.label] : []), row.layer, contrasts[k].name, row.place, row.auc, row.held_out, drives, rank + 1,
        findings.stimuli[stimulus].name, findings.stimuli[stimulus].category, response]))),
    }),
    content: () => {
      const units = shown();
      if (!units.length) return el("p", { class: "note" }, "No unit was recorded for this category in this layer: choose another.");
      const notes = [
        units.some(({ row }) => !row.held_out) && "One fold: AUC is of the stimuli that the units were chosen on.",
        units.some(({ row }) => row.selected) && "Only units that the criterion selected on all stimuli, these included, were recorded: their AUC is too high.",
      ].filter(Boolean).map((text) => el("p", { class: "note" }, text));
      return el("div", {}, ...notes, el("div", { class: "units" }, ...units.map(({ store, k, row }) => {
        const swatch = draw("svg", { viewBox: "0 0 10 10", class: "swatch", "aria-hidden": "true" },
          draw("circle", { cx: 5, cy: 5, r: 5, fill: contrasts[k][themeName()] }));
        const name = joined(several && nameOf(store), contrasts[k].name, row.place, `AUC ${bounded(row.auc, 3)}${row.held_out ? " held out" : ""}`);
        return el("section", { class: "unit", "aria-label": name }, el("h4", {}, swatch, name), strip("most", row.most), strip(row.lowest > row.least.length ? `least, ${row.lowest} equal` : "least", row.least));
      })));
    },
  };
}
