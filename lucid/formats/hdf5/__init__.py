"""HDF5 files: h5py is imported in this folder and nowhere else."""
