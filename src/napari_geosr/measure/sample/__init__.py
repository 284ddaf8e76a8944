"""The sample in a scan: which voxels are measured, given or found, and how many."""
