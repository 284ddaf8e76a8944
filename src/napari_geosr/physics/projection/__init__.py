"""Projections of a volume, and their adjoints: parallel and cone beams."""
