"""Kernels that choose labels by vectors of few bits."""
