"""Figures of results in matplotlib, which no other room imports. Never torch."""
