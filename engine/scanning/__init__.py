"""From stimuli and a network to a store of moments and contrasts. Knows torch."""
