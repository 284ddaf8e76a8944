"""Charts of docks: histograms, curves of the loss, profiles."""
