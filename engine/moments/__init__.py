"""Activations to moments: the plan of blocks, accumulators, the null, memory layout."""
