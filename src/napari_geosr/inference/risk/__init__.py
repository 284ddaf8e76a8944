"""Expected error of a denoiser on a scan without ground truth.

`blocks` draws sample blocks of the scan, `probes` generates noise that resembles the
noise of the scan, `stein` computes the expected error from the denoiser's response to
both, and `evaluation` runs the denoiser. Only the last needs torch.
"""
