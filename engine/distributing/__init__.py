"""A scan by many processes: shards handed out to dask workers, their moments merged in order."""
