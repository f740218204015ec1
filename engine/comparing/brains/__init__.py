"""Networks beside brain regions: tables, populations of units, correlations. Never torch."""
