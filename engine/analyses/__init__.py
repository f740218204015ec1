"""Analyses over stores: one pass over a layer takes a census, from which each analysis follows."""
