"""Packed sets: pictures decoded once, for many networks. Read and described without zarr."""
