"""How much detail a scan contains: spectra, and simulated scans of lower resolution."""
