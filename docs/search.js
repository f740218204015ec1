// Order of search results: guides and what words mean first; measurements and history last.
const _SECTIONS = [
  ["tutorial", 5], ["how-to/", 4], ["reference/definitions", 3], ["reference/glossary", 3],
  ["reference/generated/", -12], ["reference/", 2], ["explanation/", 2],
  ["measurements/", -8], ["changelog", -10], ["contributing", -10],
];
const _words = (text) => text.toLowerCase().match(/[\w-]+/g) ?? [];
const _WANTED = _words(new URLSearchParams(window.location.search).get("q") ?? "");
// A page whose title has more of the words comes before one whose headings have.
const _inTitle = (title) => _WANTED.filter((word) => _words(title).includes(word)).length;

var Scorer = {
  score: ([page, title, , , score]) =>
    score + (_SECTIONS.find(([start]) => page.startsWith(start))?.[1] ?? 0) + 3 * _inTitle(title),
  title: 9, // 15 in Sphinx: one word of three in a heading says little
  objNameMatch: 19, // 11 in Sphinx: a whole name of the API, above pages that mention it
  // Sphinx's own values.
  objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  partialTitle: 7, term: 5, partialTerm: 2,
};
