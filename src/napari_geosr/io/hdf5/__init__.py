"""Opens items of HDF5 files, even items in several files or with missing parts."""
