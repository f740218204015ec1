"""The store: one zarr group per layer, of moments and of what was computed from them."""
