"""Expected error of a denoiser on a scan without ground truth.

`blocks` draws a sample of the scan, `probes` makes noise like that of the scan,
`stein` turns what a denoiser does to both into an expected error, `evaluation` runs
the denoiser. Only the last needs torch.
"""
