"""The search: from embeddings over the cluster graph to the best labels."""
