"""Stimulus sets: finding and reading them, drawing one, scrambling any. No torch."""
