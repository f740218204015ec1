"""Cost of fusiform on this machine, for ``fusiform bench`` and ``benchmarks/``."""
