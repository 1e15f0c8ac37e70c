"""Files of arrays: one module each behind `contract`."""
