"""Recordings: responses of units to every stimulus, and analyses of them. Never torch."""
