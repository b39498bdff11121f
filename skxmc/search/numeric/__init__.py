"""Kernels of prediction that know no model: products of rows, selections of the largest."""
