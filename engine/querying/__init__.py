"""Which units, where and how many; tables and notebooks. Never torch."""
