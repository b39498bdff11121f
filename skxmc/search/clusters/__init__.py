"""Kernels of prediction: from an embedding to a beam of clusters."""
