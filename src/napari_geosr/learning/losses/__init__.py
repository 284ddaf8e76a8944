"""Losses, one family a file; all import torch."""
