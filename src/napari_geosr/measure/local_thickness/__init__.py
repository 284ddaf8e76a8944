"""Local thickness: the diameter of the largest inscribed sphere at each voxel."""
