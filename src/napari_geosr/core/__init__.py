"""Basic types: volumes, units, errors, steps, configs; never imports torch."""
