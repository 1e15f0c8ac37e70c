"""Files of arrays: one module each behind the contract of `base`."""
