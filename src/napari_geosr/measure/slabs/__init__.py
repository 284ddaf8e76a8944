"""Labels slabs of a volume, in this or in other processes, and joins them."""
