"""Open items of HDF5 files; their parts may be in other files, or be missing."""
