"""Grey values of scans: hot and dead voxels, and the limits of float32."""
