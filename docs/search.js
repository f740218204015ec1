// Order of search results: guides first, then explanation and reference; measurements and history last.
const _SECTIONS = [
  ["measurements/", -12], ["changelog", -12], ["contributing", -12], ["reference/generated/", 0],
  ["tutorial", 4], ["how-to/", 3], ["explanation/", 2], ["reference/", 2],
];

var Scorer = {
  score: ([page, , , , score]) => score + (_SECTIONS.find(([start]) => page.startsWith(start))?.[1] ?? 0),
  // Sphinx's own values.
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
