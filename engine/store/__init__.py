"""The store: what a scan writes and everything else reads. One zarr group per layer."""
