"""Verdict and ranking that the Restore dock shows before a run."""
