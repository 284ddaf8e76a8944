"""Adapt a denoiser to a scan, as far as the expected error on that scan falls.

`watch` estimates the error on blocks that are kept apart, `run` trains until it falls
no more, and `settings` are those of a job.
"""
