"""Diffusion models: the noise schedule, and samples drawn with it."""
