"""Kernels of prediction: from a beam of clusters to a shortlist of labels."""
