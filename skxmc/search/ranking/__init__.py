"""Kernels of the sparse ranker's step in the search."""
