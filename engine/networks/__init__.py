"""Networks: name to module, weights, layers, hooks, precision, units, lesions. Knows torch."""
