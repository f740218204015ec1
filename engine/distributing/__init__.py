"""Scans on dask workers: shards go to workers, and their moments are merged in plan order."""
