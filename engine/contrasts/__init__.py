"""From moments to t, q, CSI and masks: language, criteria, selection, summary. Never torch."""
