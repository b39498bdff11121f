"""Kernels of prediction: sparse rows to embeddings, embeddings to the best labels."""
