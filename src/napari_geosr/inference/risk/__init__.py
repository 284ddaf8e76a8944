"""Expected error of a denoiser on a scan without ground truth.

`probes` generates noise that resembles the noise of the scan, `evaluation` draws sample
blocks of the scan and runs the denoiser on them, with and without such noise, and
`stein` computes the expected error from the results. Only `evaluation` needs torch.
"""
