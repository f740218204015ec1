"""Reports: an HTML page about stores, and figures for print. Never torch."""
