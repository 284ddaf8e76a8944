"""Labels slabs of a volume, in this process or others, and joins them."""
