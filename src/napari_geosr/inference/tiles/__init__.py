"""Tiles: how a volume is cut, how large tiles may be, and what memory they need."""
