"""Analyses of stores: one pass over a layer takes a census, the basis of every analysis."""
