"""Porosity and image quality of volumes, in memory or block by block.

Does not import torch.
"""
