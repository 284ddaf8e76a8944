"""Open items of HDF5 files; parts of an item may be in other files or missing."""
