"""Open items of HDF5 files, even with parts in other files or missing parts."""
