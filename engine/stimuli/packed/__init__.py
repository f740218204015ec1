"""Packed sets: pictures decoded once for many networks. Read without zarr."""
