"""The search in numpy, slow and plain: the oracle that kernels are held to."""

import numpy as np

from skxmc.topk import TopK, empty_topk


def search_topk_reference(
    graph, embeddings: np.ndarray, k: int, *, beam_width: int, shortlist_size: int
) -> TopK:
    """Do what `skxmc.search.beam.search_topk` does, one row and one path at a time, in float64."""
    n_clusters = graph.cluster_weight.shape[0]
    beam_width = min(beam_width, n_clusters)
    shortlist_size = min(max(shortlist_size, k), graph.n_labels)
    out = empty_topk(embeddings.shape[0], k)
    for i, embedding in enumerate(embeddings.astype(np.float64)):
        logits = graph.cluster_weight @ embedding + graph.cluster_bias
        largest = logits.max()
        log_softmax = logits - largest - np.log(np.exp(logits - largest).sum())
        log_scores = np.minimum(0.0, np.log(graph.alpha) + log_softmax)
        beam = np.lexsort((np.arange(n_clusters), -logits))[:beam_width]
        path: dict[int, float] = {}
        key: dict[int, float] = {}
        for cluster in beam:
            edges = slice(graph.indptr[cluster], graph.indptr[cluster + 1])
            for label, log_weight, edge_key in zip(
                graph.labels[edges].tolist(),
                graph.log_weights[edges],
                graph.edge_keys[edges],
                strict=True,
            ):
                score = log_scores[cluster] + log_weight
                path[label] = max(score, path.get(label, -np.inf))
                key[label] = max(log_scores[cluster] + edge_key, key.get(label, -np.inf))
        shortlist = sorted(path, key=lambda label: (-key[label], label))[:shortlist_size]
        scores = {}
        for label in shortlist:
            weight = graph.label_weight[label] * float(graph.label_scale[label])
            z = weight @ embedding + graph.label_bias[label]
            scores[label] = np.exp(graph.path_power * path[label]) / (1.0 + np.exp(-z))
        best = sorted(scores, key=lambda label: (-scores[label], label))[:k]
        out.indices[i, : len(best)] = best
        out.scores[i, : len(best)] = [scores[label] for label in best]
    return out
