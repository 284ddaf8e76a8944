"""Modules around a network that change or constrain its output."""
