"""What is varied at random, alike at every voxel size."""
