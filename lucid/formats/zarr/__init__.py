"""Zarr stores: zarr is imported in this folder and nowhere else."""
