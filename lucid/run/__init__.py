"""Where work is done: here, in a process of its own, on a Dask cluster."""
