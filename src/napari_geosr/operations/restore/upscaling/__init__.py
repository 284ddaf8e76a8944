"""Super-resolution that is consistent with its scan: measurements before a run.

`sharpness` measures how much sharper than the scan a model's result is; `verdict`
estimates from the scan alone whether the model will outperform interpolation.
"""
