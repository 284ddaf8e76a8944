"""Items of HDF5 files, including those in several files or with missing parts."""
