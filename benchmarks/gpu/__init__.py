"""Everything on an NVIDIA GPU."""
