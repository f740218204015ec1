"""Comparisons of networks with each other and with brain regions. Never torch."""
