"""What there is to know of a scan before anything is made of it."""
