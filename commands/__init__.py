"""The commands: options, tables, notes and progress. The engine knows nothing of them."""
