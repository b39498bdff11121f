"""The whole way from rows to scores, once more in plain numpy."""

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.heads import SparseRanker
from skxmc.heads import ranker as ranker_module
from skxmc.heads.blend import Blend
from skxmc.search.beam import auto_shortlist_size
from skxmc.training.elias import PRIOR_WEIGHT

X, Y = make_xmc_classification(n_samples=150, n_features=80, n_labels=30, random_state=0)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def scores_by_hand(model, embeddings, beam_width):
    """p = max_c (s_c a_cl)^path_power sigmoid(z_l) over the beam, -inf for labels out of reach."""
    index, head = model.model_.index, model.model_.head.rows
    weight, bias = (p.detach().numpy().astype(float) for p in index.clusters.parameters())
    logits = embeddings @ weight.T + bias
    cluster_scores = np.minimum(1, index.alpha * np.exp(log_softmax(logits)))
    edges, learned = index.edges.numpy(), index.edge_logits.detach().numpy().astype(float)
    shares = np.exp(log_softmax(np.where(edges >= 0, learned, -np.inf)))
    weights = np.zeros((edges.shape[0], model.n_labels_))
    for cluster in range(edges.shape[0]):
        for label, share in zip(edges[cluster], shares[cluster], strict=True):
            if label >= 0:
                weights[cluster, label] = min(1, index.beta * share)
    z = embeddings @ head.weight.numpy().T.astype(float) + head.bias.numpy()
    out = np.full(z.shape, -np.inf)
    for i in range(z.shape[0]):
        beam = np.argsort(-logits[i], kind="stable")[:beam_width]
        path = (cluster_scores[i, beam, None] * weights[beam]).max(axis=0)
        reached = (weights[beam] > 0).any(axis=0)
        out[i, reached] = (path**model.path_power / (1 + np.exp(-z[i])))[reached]
    return out


def mean_by_hand(ranker, p):
    """p^(1 - share) sigmoid(2 margin)^share."""
    margins = normalize(X) @ ranker.weight_.toarray().T.astype(float) + ranker.bias_
    reached = np.isfinite(p)
    sure = 1 / (1 + np.exp(-2 * margins))
    return np.where(
        reached, np.where(reached, p, 0) ** (1 - ranker.share_) * sure**ranker.share_, p
    )


@pytest.mark.parametrize("ranker", [None, "auto", SparseRanker(n_random=3, share=0.4)])
@pytest.mark.parametrize("beam_width", [1, 2, 20])
def test_scores(beam_width, ranker):
    model = EliasClassifier(
        BagOfWords(embedding_dim=16, normalize="rows"),
        stage1_epochs=6,
        stage2_epochs=4,
        n_clusters=8,
        alpha=2.0,
        kappa=6,
        ranker=ranker,
        random_state=0,
    ).fit(X, Y)
    model.set_params(beam_width=beam_width)
    # the encoder has its own tests
    encoder = model.model_.encoder
    batch = encoder.collate(encoder.prepare(X), np.arange(150), "cpu")
    embeddings = encoder(batch).detach().numpy().astype(float)
    expected = scores_by_hand(model, embeddings, beam_width)
    if ranker is not None:
        expected = mean_by_hand(model.ranker_, expected)
    found = model.decision_function(X)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    reached = np.isfinite(expected)
    np.testing.assert_allclose(found[reached], expected[reached], rtol=2e-4, atol=1e-6)
    assert reached.all() == (beam_width == 20), "a narrow beam leaves labels out"
    threshold = 0.5 if ranker is None else 0.25
    np.testing.assert_array_equal(model.predict(X).toarray(), found > threshold)


def test_shortlist_keeps_the_best_paths():
    """With a shortlist of m, the labels scored are the m with the best paths and priors."""
    model = EliasClassifier(
        BagOfWords(embedding_dim=16),
        stage1_epochs=4,
        stage2_epochs=4,
        n_clusters=4,
        alpha=2.0,
        ranker=None,
        random_state=0,
    ).fit(X, Y)
    whole = model.decision_function(X)
    short = model.set_params(shortlist_size=5).decision_function(X)
    assert (np.isfinite(short).sum(axis=1) == 5).all()
    kept = np.isfinite(short)
    np.testing.assert_allclose(short[kept], whole[kept], rtol=1e-6)
    # z apart, labels that were left out have smaller paths, weighed by how common the label is
    z_free = whole / (1 / (1 + np.exp(-logits(model))))
    z_free *= np.exp(PRIOR_WEIGHT * model.model_.head.rows.bias.detach().numpy())
    for i in range(X.shape[0]):
        assert z_free[i, kept[i]].min() >= z_free[i, ~kept[i]].max() * (1 - 1e-4)


def logits(model):
    encoder, head = model.model_.encoder, model.model_.head.rows
    batch = encoder.collate(encoder.prepare(X), np.arange(X.shape[0]), "cpu")
    return encoder(batch).detach().numpy() @ head.weight.numpy().T + head.bias.numpy()


def test_learns_to_rank():
    """On rows it has not seen, far better than the most frequent label."""
    rows, truth = make_xmc_classification(
        n_samples=600, n_features=300, n_labels=40, n_labels_per_row=2.0, random_state=0
    )
    model = EliasClassifier(
        BagOfWords(embedding_dim=32),
        stage1_epochs=15,
        stage2_epochs=5,
        max_leaf=10,
        batch_size=32,
        random_state=0,
    ).fit(rows[:500], truth[:500])
    frequent = truth[500:].toarray()[:, np.argmax(model.label_counts_)].mean()
    assert model.score(rows[500:], truth[500:]) > frequent + 0.25


@pytest.mark.parametrize(("blend", "size"), [(None, 790), (Blend(1.0, 2.0, 0.0, 0.0), 1580)])
def test_shortlists_are_longer_where_the_ranker_weighs_centroids(blend, size, monkeypatch):
    monkeypatch.setattr(ranker_module, "fit_blend", lambda *_: blend)
    ranker = SparseRanker(n_holdout=5)
    model = EliasClassifier(BagOfWords(embedding_dim=8), ranker=ranker, random_state=0).fit(X, Y)
    assert model.ranker_.blend_ == blend
    assert auto_shortlist_size(5, model.graph_.ranker) == model._shortlist_size("auto", 5) == size


def test_ranker_is_for_words():
    """Where features are measurements, rows of unit length mean little."""
    words = EliasClassifier(BagOfWords(embedding_dim=8), random_state=0).fit(X, Y)
    assert words.ranker_ is not None
    assert words.graph_.ranker is not None
    same = EliasClassifier(BagOfWords(embedding_dim=8), random_state=0).fit(X.toarray(), Y)
    np.testing.assert_array_equal(same.decision_function(X), words.decision_function(X))
    for measured in (X.toarray() - 0.5, X.toarray() + 0.5):
        model = EliasClassifier(BagOfWords(embedding_dim=8), random_state=0).fit(measured, Y)
        assert model.ranker_ is model.graph_.ranker is None
    asked = EliasClassifier(BagOfWords(embedding_dim=8), ranker=SparseRanker(), random_state=0)
    assert asked.fit(X.toarray() - 0.5, Y).ranker_ is not None
    assert asked.ranker_ is not asked.ranker
