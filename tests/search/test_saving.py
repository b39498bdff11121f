"""Graphs in folders: what comes back, what is mapped into memory, what is refused."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp
from joblib import Parallel, delayed

from skxmc._sparse import as_csr
from skxmc.search import folder as folder_module
from skxmc.search.beam import auto_shortlist_size, search_csr, search_topk
from skxmc.search.graph import SearchGraph
from skxmc.search.parts import FeatureTable, RankerColumns

from .test_beam import SIZES, big_problem


def with_encoder():
    graph, _ = big_problem()
    rng = np.random.default_rng(4)
    table = rng.normal(size=(30, 9)).astype(np.float32)
    X = as_csr(sp.random_array((60, 30), density=0.2, rng=rng, dtype=np.float32))
    weight = as_csr(sp.random_array((graph.n_labels, 30), density=0.2, rng=rng, dtype=np.float32))
    bias = rng.random(graph.n_labels, np.float32)
    ranker = RankerColumns.from_rows(weight, bias, share=0.6, size=20, far=True)
    encoder = FeatureTable.from_floats(table, table[:0, 0], True, 3.0)
    return replace(graph, encoder=encoder, ranker=ranker), X


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def is_mapped(array):
    """Whether an array's memory is that of a file."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


@pytest.mark.parametrize("mmap", [True, False])
def test_what_comes_back_is_what_was_saved(tmp_path, mmap):
    graph, _ = with_encoder()
    for saved in (
        graph,
        graph.reduced(),
        replace(graph, encoder=None, ranker=None, path_power=0.5),
    ):
        saved.save(tmp_path / "model")
        loaded = SearchGraph.load(tmp_path / "model", mmap=mmap)
        for f in fields(SearchGraph):
            if isinstance(expected := getattr(saved, f.name), np.ndarray):
                got = getattr(loaded, f.name)
                np.testing.assert_array_equal(got, expected)
                assert got.dtype == expected.dtype
                assert not got.flags.writeable
                assert is_mapped(got) == mmap
        assert (loaded.alpha, loaded.path_power) == (saved.alpha, saved.path_power)
        for name in ("encoder", "ranker"):
            part, expected = getattr(loaded, name), getattr(saved, name)
            assert (part is None) == (expected is None)
            for f in fields(part) if part is not None else ():
                np.testing.assert_array_equal(getattr(part, f.name), getattr(expected, f.name))
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "nothing else is left behind"


def test_a_saved_ranker_knows_how_far_to_search(tmp_path):
    graph, X = with_encoder()
    assert auto_shortlist_size(5, graph.ranker) == 2 * auto_shortlist_size(5) == 1580
    graph.save(tmp_path / "model")
    loaded = SearchGraph.load(tmp_path / "model")
    assert loaded.ranker.far
    assert not loaded.ranker.from_rows(as_csr(X), X[:, 0].toarray().ravel(), share=0.5, size=0).far


def test_mapped_graphs_are_searched_by_threads(tmp_path):
    graph, X = with_encoder()
    expected = search_csr(graph, X, 7, **SIZES)
    graph.save(tmp_path / "model")
    loaded = SearchGraph.load(tmp_path / "model")
    assert_same(search_csr(loaded, X, 7, **SIZES), expected)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: search_csr(loaded, X[[i]], 7, **SIZES), range(60)))
    np.testing.assert_array_equal(np.vstack([top.scores for top in found]), expected.scores)


def test_a_pickle_of_a_mapped_graph_needs_no_folder(tmp_path):
    graph, embeddings = big_problem()
    graph.save(tmp_path / "model")
    data = pickle.dumps(SearchGraph.load(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    other = pickle.loads(data)
    assert not is_mapped(other.label_weight)
    assert_same(
        search_topk(other, embeddings, 7, **SIZES), search_topk(graph, embeddings, 7, **SIZES)
    )


def worker():
    """Make a function that joblib sends by value: its workers cannot import the tests."""

    def search(graph, embeddings, sizes):
        mapped = []
        for array in (graph.label_weight, graph.label_codes, graph.cluster_weight):
            while array is not None and not isinstance(array, np.memmap):
                array = getattr(array, "base", None)
            mapped.append(array is not None)
        return search_topk(graph, embeddings, 7, **sizes), mapped

    return delayed(search)


def test_workers_of_joblib_map_the_same_files(tmp_path):
    graph, embeddings = big_problem()
    graph.save(tmp_path / "model")
    loaded = SearchGraph.load(tmp_path / "model")
    search = worker()
    work = (search(loaded, part, SIZES) for part in (embeddings[:30], embeddings[30:]))
    found = Parallel(n_jobs=2, backend="loky")(work)
    expected = search_topk(graph, embeddings, 7, **SIZES)
    assert all(all(mapped) for _, mapped in found)
    np.testing.assert_array_equal(np.vstack([top.scores for top, _ in found]), expected.scores)
    np.testing.assert_array_equal(np.vstack([top.indices for top, _ in found]), expected.indices)


def test_large_arrays_reach_workers_of_joblib_without_copies():
    """A graph in memory: joblib itself writes arrays above `max_nbytes` to a file once."""
    graph, embeddings = big_problem()
    work = [worker()(graph, embeddings, SIZES)] * 2
    found = Parallel(n_jobs=2, backend="loky", max_nbytes=100)(work)
    for top, mapped in found:
        assert all(mapped)
        assert_same(top, search_topk(graph, embeddings, 7, **SIZES))


def test_a_failed_save_leaves_the_former_graph(tmp_path, monkeypatch):
    graph, _ = big_problem()
    graph.save(tmp_path / "model")

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(folder_module.np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        replace(graph, path_power=0.5).save(tmp_path / "model")
    monkeypatch.undo()
    assert SearchGraph.load(tmp_path / "model").path_power == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_mapped_graph_outlives_the_next_save(tmp_path):
    graph, embeddings = big_problem()
    graph.save(tmp_path / "model")
    loaded = SearchGraph.load(tmp_path / "model")
    replace(graph, label_bias=graph.label_bias + 1).save(tmp_path / "model")
    assert_same(
        search_topk(loaded, embeddings, 7, **SIZES), search_topk(graph, embeddings, 7, **SIZES)
    )


def test_what_is_no_graph_is_neither_read_nor_replaced(tmp_path):
    graph, _ = big_problem()
    with pytest.raises(FileNotFoundError, match="is no folder; name one that"):
        SearchGraph.load(tmp_path / "nothing")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "plan.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes holds no SearchGraph"):
        SearchGraph.load(tmp_path / "notes")
    with pytest.raises(FileExistsError, match="notes exists and is no saved SearchGraph"):
        graph.save(tmp_path / "notes")
    assert (tmp_path / "notes" / "plan.txt").read_text() == "mine"
    (tmp_path / "notes" / "graph.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="missing or foreign"):
        SearchGraph.load(tmp_path / "notes")


def test_incomplete_and_later_folders_are_named(tmp_path):
    graph, _ = big_problem()
    graph.save(tmp_path / "model")
    index = tmp_path / "model" / "graph.json"
    (tmp_path / "model" / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels\.npy is missing"):
        SearchGraph.load(tmp_path / "model")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 5}))
    with pytest.raises(ValueError, match="has version 5 of the format, this skxmc reads version 4"):
        SearchGraph.load(tmp_path / "model")
