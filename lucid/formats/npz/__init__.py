"""NumPy archives (`.npz`), which are zip archives of `.npy` files."""
