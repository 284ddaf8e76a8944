"""Charts in docks: histograms, loss curves and profiles."""
