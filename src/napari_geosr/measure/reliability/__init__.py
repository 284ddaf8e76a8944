"""Reliability of a measurement, with messages for the user."""
