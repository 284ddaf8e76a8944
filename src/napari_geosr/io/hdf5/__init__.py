"""Opens items of HDF5 files, even if spread over several files or partly missing."""
