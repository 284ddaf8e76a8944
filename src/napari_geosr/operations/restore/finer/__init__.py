"""Super-resolution that agrees with its scan: what has to be known before a run.

`sharpness` measures how much sharper than the scan a model's result is, `outlook`
estimates from the scan alone whether the model will do better than interpolation.
"""
