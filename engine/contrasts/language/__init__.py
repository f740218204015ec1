"""Contrasts, rules and criteria, as text and as values."""
