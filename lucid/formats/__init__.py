"""Files of arrays: one room for each format, behind `contract`."""
