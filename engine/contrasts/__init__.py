"""Moments to t, q, CSI and masks: the language, criteria, selection, summary. Never torch."""
