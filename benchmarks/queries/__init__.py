"""Questions to a store: queries, analyses, reports, and the layout that serves them."""
