"""What fusiform costs on the machine it runs on. Used by ``fusiform bench`` and by benchmarks/."""
