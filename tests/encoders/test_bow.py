"""The bag-of-words encoder against dense numpy."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skxmc import EliasClassifier
from skxmc._sparse import as_csr
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords, start
from skxmc.metrics import TopKScorer
from skxmc.training.fitting import embed_rows

CPU = torch.device("cpu")


def counts(n_rows=40, n_features=25, seed=0):
    """Non-negative, mostly zeros, no empty row."""
    rng = np.random.default_rng(seed)
    X = rng.poisson(0.2, (n_rows, n_features)).astype(np.float32)
    X[np.arange(n_rows), rng.integers(n_features, size=n_rows)] += 1
    return X


def build(X, seed=0, **parameters):
    return BagOfWords(**{"embedding_dim": 8, **parameters}).build(X, np.random.RandomState(seed))


def embed(encoder, X):
    return embed_rows(encoder, encoder.prepare(X), X.shape[0], CPU)


def cosines(X):
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    unit = X / np.where(lengths > 0, lengths, 1)
    return unit @ unit.T


# --- normalisation


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, -1.0]),
    )
)
def test_auto_takes_rows_for_counts_and_scale_otherwise(X):
    counts_like = (X >= 0).all() and (X == 0).sum() > X.size / 2
    for form in (X, sp.csr_array(X)):
        assert build(form, embedding_dim=2).normalize == ("rows" if counts_like else "scale")


def test_auto_does_not_mistake_stored_zeros():
    X = counts()
    stored = sp.csr_array(np.ones_like(X))
    stored.data[:] = X.ravel()
    assert build(stored).normalize == build(X).normalize == "rows"


def test_rows_have_unit_length():
    X = counts()
    X[3] = 0
    out = build(X, normalize="rows").prepare(X).toarray()
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), np.arange(40) != 3, rtol=1e-6)
    np.testing.assert_allclose(cosines(out), cosines(X), atol=1e-6)


def test_none_leaves_rows_as_they_are():
    X = counts()
    np.testing.assert_array_equal(build(X, normalize="none").prepare(X).toarray(), X)


def test_scale_makes_features_equal_and_rows_of_mean_square_1():
    X = counts() * np.logspace(-3, 3, 25, dtype=np.float32)
    X[:, 7] = 0
    encoder = build(X, normalize="scale")
    out = encoder.prepare(X).toarray()
    mean_squares = np.square(out).mean(axis=0)
    used = np.arange(25) != 7
    np.testing.assert_allclose(mean_squares[used], 1 / used.sum(), rtol=1e-5)
    assert mean_squares[7] == 0
    assert np.square(out).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    # new rows are measured with the training rows' scale
    np.testing.assert_allclose(encoder.prepare(3 * X[:5]).toarray(), 3 * out[:5], rtol=1e-6)


@pytest.mark.parametrize("normalize", ["auto", "rows", "scale", "none"])
def test_prepare_leaves_its_input_alone(normalize):
    for X in (counts(), sp.csr_array(counts()), sp.csr_array(counts() - 1)):
        kept = X.copy()
        encoder = build(X, normalize=normalize)
        encoder.prepare(X)
        same = (kept != X).nnz == 0 if sp.issparse(X) else np.array_equal(X, kept)
        assert same


# --- the start


def test_svd_start_keeps_the_angles_between_rows():
    """With room for all singular directions nothing is lost."""
    X = counts()
    encoder = build(X, embedding_dim=32, normalize="rows")
    np.testing.assert_allclose(cosines(embed(encoder, X)), cosines(X), atol=2e-3)


def test_svd_start_is_the_best_of_its_rank():
    """Two groups of rows over disjoint words: two directions say it all."""
    X = np.zeros((20, 10), dtype=np.float32)
    X[:10, :5] = X[10:, 5:] = 1
    out = cosines(embed(build(X, embedding_dim=2), X))
    np.testing.assert_allclose(out, cosines(X), atol=1e-3)


def test_directions_span_about_what_a_full_svd_finds():
    rng = np.random.default_rng(0)
    X = sp.random_array((300, 80), density=0.2, rng=rng, dtype=np.float32) * (
        0.9 ** np.arange(80, dtype=np.float32)
    )
    X = as_csr(X)
    V = start.leading_directions(X, 20, np.random.RandomState(0))
    np.testing.assert_allclose(V.T @ V, np.eye(20), atol=1e-4)
    most = np.square(np.linalg.svd(X.toarray())[1][:20]).sum()
    assert np.square(X @ V).sum() > 0.98 * most


def test_directions_of_a_matrix_of_lower_rank_are_no_more_than_it_has():
    X = sp.csr_array(np.ones((6, 5), dtype=np.float32))
    V = start.leading_directions(X, 3, np.random.RandomState(0))
    np.testing.assert_allclose(V @ V.T, np.full((5, 5), 0.2), atol=1e-4)


def test_random_start_depends_on_the_seed_alone():
    X = counts()
    tables = [
        build(data, seed, init="random", normalize="rows").table.weight
        for data, seed in ((X, 0), (X, 0), (X, 1))
    ]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    # Gaussian noise: no direction is shared with the data
    assert abs(np.corrcoef(tables[0].numpy().ravel(), tables[2].numpy().ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("init", ["svd", "random"])
@pytest.mark.parametrize("normalize", ["rows", "scale", "none"])
@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_size_of_the_start(init, normalize, scale):
    X = counts()
    out = embed(build(X, init=init, normalize=normalize, scale=scale), X)
    assert np.sqrt(np.square(out, dtype=np.float64).mean()) == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize("init", ["svd", "random"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 3)])
@pytest.mark.parametrize("empty", [False, True])
def test_degenerate_data(init, shape, empty):
    X = np.zeros(shape, np.float32) if empty else np.ones(shape, np.float32)
    out = embed(build(X, init=init, embedding_dim=5), X)
    assert out.shape == (shape[0], 5)
    assert np.isfinite(out).all()
    assert (np.abs(out).max() > 0) == (not empty)


def test_many_rows_are_sampled_for_the_start(monkeypatch):
    monkeypatch.setattr(start, "_SVD_ROWS", 10)
    seen = []
    find = start.leading_directions
    monkeypatch.setattr(
        start, "leading_directions", lambda X, *args: seen.append(X.shape) or find(X, *args)
    )
    X = sp.csr_array(counts())
    assert build(X).table.weight.shape == (25, 8)
    assert seen == [(10, 25)]


@pytest.mark.parametrize("form", [sp.csr_array, np.asarray])
def test_same_seed_same_encoder(form):
    X = form(counts())
    one, other = build(X), build(X)
    assert torch.equal(one.table.weight, other.table.weight)
    assert torch.equal(one.table.weight, build(sp.csr_array(counts())).table.weight)


def test_auto_width_fits_the_data():
    widths = [
        build(sp.csr_array((3, n)), embedding_dim="auto").embedding_dim for n in (1, 100, 10_000)
    ]
    assert widths[0] < widths[1] < widths[2]
    assert widths == sorted(widths)


@pytest.mark.parametrize("init", ["svd", "random"])
@pytest.mark.parametrize("embedding_dim", [2, 8, 40])
def test_features_of_no_training_row_say_nothing(init, embedding_dim):
    X = counts()
    X[:, [3, 20]] = 0
    encoder = build(sp.csr_array(X), init=init, embedding_dim=embedding_dim, normalize="none")
    new = X[:4].copy()
    new[1:, [3, 20]] = 5
    new[3, :20] = new[3, 21:] = 0
    out = embed(encoder, new)
    np.testing.assert_array_equal(out[:3], embed(encoder, X[:3]))
    assert (out[3] == 0).all(), "as an empty row"


# --- forward


def test_embedding_is_the_weighted_sum_up_to_its_length():
    X = counts()
    encoder = build(X, normalize="rows")
    sums = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ encoder.table.weight.numpy()
    out = embed(encoder, X)
    along = (out * sums).sum(axis=1) / np.linalg.norm(out, axis=1) / np.linalg.norm(sums, axis=1)
    np.testing.assert_allclose(along, 1, rtol=1e-5)


def test_an_empty_row_has_an_empty_embedding():
    X = counts()
    X[5] = 0
    out = embed(build(X), X)
    assert (out[5] == 0).all()
    assert (np.abs(np.delete(out, 5, axis=0)).sum(axis=1) > 0).all()


def test_layers_start_as_the_identity_and_are_residual():
    X = counts()
    torch.manual_seed(0)
    deep, flat = build(X, n_layers=2), build(X, n_layers=0)
    np.testing.assert_array_equal(embed(deep, X), embed(flat, X))
    layer = deep.layers[1]
    layer.gain.data.fill_(0.5)
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    e = embed(flat, X)
    expected = e + 0.5 * np.maximum(e @ weight.T + bias, 0)
    np.testing.assert_allclose(embed(deep, X), expected, rtol=1e-4, atol=1e-5)
    assert len(list(flat.layers)) == 0


def test_feature_dropout_in_training_only():
    X = counts(200)
    encoder, plain = build(X, feature_dropout=0.5), build(X)
    np.testing.assert_array_equal(embed(encoder, X), embed(plain, X))
    data = encoder.prepare(X)
    batch = encoder.collate(data, np.arange(200), CPU)
    kept = batch.data.clone()
    seen = []
    bag = encoder.table.bag
    encoder.table.bag = lambda inputs: seen.append(inputs.data) or bag(inputs)
    torch.manual_seed(0)
    encoder.train()(batch)
    encoder(batch)
    assert torch.equal(batch.data, kept), "the batch itself stays"
    left = [data != 0 for data in seen]
    assert 0.4 < left[0].float().mean() < 0.6
    assert not torch.equal(left[0], left[1]), "drawn anew each time"
    # what is left is scaled up, so that the expected sum is the same
    torch.testing.assert_close(seen[0][left[0]], 2 * kept[left[0]])


def test_gradient_reaches_the_table_and_touches_only_its_rows():
    X = counts()
    encoder = build(X, normalize="rows").train()
    before = encoder.table.weight.clone()
    rows = np.array([0, 1])
    out = encoder(encoder.collate(encoder.prepare(X), rows, CPU))
    out.sum().backward()
    encoder.table.step()
    changed = (encoder.table.weight != before).any(dim=1).numpy()
    touched = (X[:2] != 0).any(axis=0)
    assert not changed[~touched].any()
    assert changed[touched].all()


# --- parameters

BAD = {
    "embedding_dim": [0, -3, 2.5, "wide", None],
    "n_layers": [-1, 1.5, "two"],
    "init": ["pca", None],
    "lr": [0, -0.1, "fast", None],
    "initial_square": [-1e-9, "x", None, np.nan],
    "normalize": ["l2", None, True],
    "feature_dropout": [-0.1, 1, 1.5, "half"],
    "scale": [0, -1, "big"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_bad_parameters(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^BagOfWords: {name} must be") as info:
        build(counts(), **{name: value})
    assert repr(value) in str(info.value)


def test_every_parameter_has_its_bad_values():
    assert BAD.keys() == BagOfWords().get_params().keys()


def test_recipe_is_a_parameter_object():
    recipe = BagOfWords(embedding_dim=7, init="random")
    assert repr(recipe) == "BagOfWords(embedding_dim=7, init='random')"
    assert clone(recipe).get_params() == recipe.get_params()
    before = copy.deepcopy(vars(recipe))
    recipe.build(counts(), np.random.RandomState(0))
    assert vars(recipe) == before, "building stores nothing"


def test_nested_parameters_and_grid_search():
    X, Y = make_xmc_classification(n_samples=80, n_features=50, n_labels=12, random_state=0)
    model = EliasClassifier(
        BagOfWords(embedding_dim=4), stage1_epochs=2, stage2_epochs=1, ranker=None, random_state=0
    )
    assert model.get_params()["encoder__embedding_dim"] == 4
    search = GridSearchCV(
        model, {"encoder__embedding_dim": [2, 16]}, scoring=TopKScorer("ndcg", k=3), cv=2
    ).fit(X, Y)
    best = search.best_params_["encoder__embedding_dim"]
    assert search.best_estimator_.model_.encoder.embedding_dim == best
    assert model.encoder.embedding_dim == 4, "clones are searched"
    assert search.cv_results_["mean_test_score"].std() > 0, "the parameter takes effect"
