// Order of search results: the tutorial, guides and what words mean; measurements and history last.
const _SECTIONS = [
  ["tutorial", 9], ["how-to/", 4], ["reference/definitions", 3], ["reference/glossary", 3],
  ["reference/generated/", -12], ["reference/", 2], ["explanation/", 2],
  ["measurements/", -8], ["changelog", -10], ["contributing", -10],
];

var Scorer = {
  score: ([page, , , , score]) => score + (_SECTIONS.find(([start]) => page.startsWith(start))?.[1] ?? 0),
  title: 9, // 15 in Sphinx: one word of three in a heading says little
  // Sphinx's own values.
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  partialTitle: 7, term: 5, partialTerm: 2,
};
