"""Contrasts from a store: every kind of criterion, and many categories."""
