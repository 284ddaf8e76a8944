"""How much detail a scan contains: spectra, and simulated coarser scans."""
