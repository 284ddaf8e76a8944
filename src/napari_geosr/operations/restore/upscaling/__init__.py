"""Measurements on a scan before a super-resolution run.

`sharpness` measures how much sharper than the scan a model's result is.
`upscaling_verdict` estimates from the scan alone whether the model will outperform
interpolation; for this, `trial` tests the model on parts of the scan.
"""
