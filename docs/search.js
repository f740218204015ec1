// Order of search results: guides and what words mean first; measurements and history last.
const _SECTIONS = [
  ["tutorial", 5], ["how-to/", 4], ["reference/definitions", 5], ["reference/glossary", 5],
  ["reference/generated/", -12], ["reference/", 2], ["explanation/", 2],
  ["measurements/", -8], ["changelog", -10], ["contributing", -10],
];

var Scorer = {
  score: ([page, , , , score]) => score + (_SECTIONS.find(([start]) => page.startsWith(start))?.[1] ?? 0),
  title: 9, // 15 in Sphinx: one word of three in a heading says little
  objNameMatch: 19, // 11 in Sphinx: a whole name of the API, above pages that mention it
  // Sphinx's own values.
  objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  partialTitle: 7, term: 5, partialTerm: 2,
};
