// The page: its controls, figures, and light and dark themes.

const figures = [];
let redrawing = false;

function redraw() {
  if (redrawing) return;
  redrawing = true;
  requestAnimationFrame(() => {
    redrawing = false;
    drawAll(findings.palette[themeName()]);
  });
}

function drawAll(theme) {
  for (const figure of figures) figure.update(theme);
}

const darkPreferred = matchMedia("(prefers-color-scheme: dark)");
const printing = matchMedia("print");

function themeName() {
  if (printing.matches) return "light";
  return document.documentElement.dataset.theme ?? (darkPreferred.matches ? "dark" : "light");
}

function themeButton() {
  const label = () => (themeName() === "dark" ? "Light" : "Dark");
  const button = el("button", { type: "button", id: "theme", onclick: () => {
    document.documentElement.dataset.theme = themeName() === "dark" ? "light" : "dark";
    say();
    redraw();
  } });
  const say = () => {
    button.textContent = label();
    button.setAttribute("aria-label", `${label()} colours`);
  };
  say();
  darkPreferred.addEventListener("change", () => { say(); redraw(); });
  return button;
}

function controls() {
  const options = { [-1]: "all", ...Object.fromEntries(contrasts.map(({ name }, k) => [k, name])) };
  const detailed = layersOf(stores).filter((name) => stores.some((store) => store.placed.has(name)));
  const layers = Object.fromEntries(detailed.map((name) => [name, name]));
  return [
    choice("Category", options, chosen.contrast, (value) => { chosen.contrast = Number(value); redraw(); }),
    choice("Layer", layers, chosen.layer, (value) => { chosen.layer = value; redraw(); }),
    choice("Axis", { layer: "layers", depth: "relative depth" }, chosen.axis, (value) => { chosen.axis = value; redraw(); }),
  ];
}

const KNOWN = {
  share: shareFigure, specificity: specificityFigure, distribution: distributionFigure, spread: spreadFigure,
  maps: mapsFigure, strength: strengthFigure, overlap: overlapFigure, consistency: consistencyFigure, best: bestFigure,
  training: trainingFigure, onsets: onsetsFigure, localizers: localizersFigure, crossed: crossedFigure, regions: regionsFigure, lesions: lesionsFigure,
};

function start() {
  chosen.layer = findings.layer;
  if (stores.some((store) => store.layers.join("\n") !== stores[0].layers.join("\n"))) chosen.axis = "depth";
  document.getElementById("choices").append(...controls());
  document.getElementById("appearance").append(themeButton());
  for (const place of document.querySelectorAll("figure[data-figure]")) {
    const known = KNOWN[place.dataset.figure](redraw, results[place.dataset.result]);
    if (known) figures.push(new Figure(place, known));
    else place.remove();
  }
  drawAll(findings.palette[themeName()]);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) redraw(); // a phone's bars change the height only
    width = innerWidth;
  });
  printing.addEventListener("change", () => drawAll(findings.palette[themeName()]));
  document.documentElement.dataset.ready = "";
}

start();
