"""From a store to answers: contrasts, criteria, tables. Never torch, never the network."""
