"""Porosity and image quality of volumes, in memory or block by block.

This package does not import torch.
"""
