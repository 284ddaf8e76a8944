"""Super-resolution that is consistent with its scan: measurements before a run.

`sharpness` measures how much sharper than the scan a model's result is;
`upscaling_verdict` estimates from the scan alone whether the model will outperform
interpolation, with the `trial` of the model on parts of the scan.
"""
