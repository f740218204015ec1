"""Stimulus sets: finding, reading, checking and scrambling them. No torch."""
