"""A trained model gives the same answer in torch as in the kernels that predict."""

import numpy as np
import pytest
import torch

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.heads import candidate_dots
from skxmc.search.shortlist import build_shortlist
from skxmc.topk import TopK

X, Y = make_xmc_classification(
    n_samples=300, n_features=200, n_labels=60, n_labels_per_row=2.0, random_state=0
)


def scores_in_torch(clf, X, beam_width):
    """Final scores of all labels, -inf for those that the beam does not lead to."""
    model = clf.model_.eval()
    with torch.no_grad():
        embeddings = torch.from_numpy(clf._embed(X))
        log_scores = model.index.log_scores(embeddings)
        top = torch.topk(log_scores, beam_width, dim=1)
        edges, log_weights = model.index.edges, model.index.log_weights()
        found = build_shortlist(
            top.indices, top.values, edges, log_weights, clf.n_labels_, clf.n_labels_
        )
        cluster = top.indices[found.rows, found.slots]
        path = log_scores[found.rows, cluster] + log_weights[cluster, found.columns]
        labels = found.labels.indices.long()
        rows = model.head.rows
        logits = (embeddings[found.rows] * rows.weight[labels]).sum(1) + rows.bias[labels]
        log_p = model.path_power * path + torch.nn.functional.logsigmoid(logits)
        out = torch.full((X.shape[0], clf.n_labels_), -torch.inf)
        out[found.rows, labels] = log_p
    return out


@pytest.mark.parametrize("width", [16, 256])
@pytest.mark.parametrize("ranker", [None, "auto"])
def test_torch_and_kernels_agree(width, ranker):
    clf = EliasClassifier(
        encoder=BagOfWords(embedding_dim=width), ranker=ranker, rerank_size=60, max_leaf=8,
        alpha=1.0, stage1_epochs=3, stage2_epochs=2, random_state=0,
    ).fit(X, Y)  # fmt: skip
    assert (clf.ranker_ is None) == (ranker is None)
    n_labels, rows = clf.n_labels_, X[:80]
    log_p = scores_in_torch(clf, rows, beam_width=3)
    if ranker is not None:
        every = TopK(np.tile(np.arange(n_labels), (80, 1)), np.zeros((80, n_labels)))
        margins = candidate_dots(rows, clf.ranker_.weight_, every, bias=clf.ranker_.bias_)
        sure = torch.nn.functional.logsigmoid(2 * torch.from_numpy(margins))
        log_p = (1 - clf.ranker_.share_) * log_p + clf.ranker_.share_ * sure
    expected = torch.topk(log_p.exp(), 5, dim=1)
    got = clf.predict_topk(rows, k=5, beam_width=3, shortlist_size=n_labels)
    # the table of features is held in 16 bits
    np.testing.assert_allclose(got.scores, expected.values, rtol=1e-3)
    same = (got.indices == expected.indices.numpy()).mean()
    assert same > 0.99, "labels whose scores nearly tie may swap"
