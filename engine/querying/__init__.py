"""Queries for units, their tables, and the store's face in a notebook. Never torch."""
