"""Volumes on disk, behind URLs and in memory: formats, metadata, and reading them at any voxel size."""
