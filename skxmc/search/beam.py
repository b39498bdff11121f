"""The search over a trained model: beam of clusters, paths to labels, final scores, top k."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import numba
import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

from skxmc._plain_row import is_plain_row
from skxmc._sparse import as_csr
from skxmc.search.fused import _kernels
from skxmc.search.graph import SearchGraph
from skxmc.search.parts import FeatureTable, RankerColumns
from skxmc.search.ranking._kernels import RankerArrays
from skxmc.topk import TopK

__all__ = [
    "ROWS_AT_ONCE",
    "auto_rerank_size",
    "auto_shortlist_size",
    "search_csr",
    "search_topk",
    "warm_up",
]

ROWS_AT_ONCE = _kernels.ROWS_AT_ONCE
# Rows that are sorted by their best clusters, so that neighbours read the same parts of the model:
# with more of them more is shared, but their embeddings take memory.
_SORTED_AT_ONCE = 2**14
# Labels beyond k, at least, that are scored by their rows: without a ranker, and with one.
SPARE = 8
FEW = 3
# Labels of a graph up to which all that are ranked are scored in full: they cost little.
_FEW_LABELS = 1000


def auto_shortlist_size(k: int, ranker: RankerColumns | None = None) -> int:
    """Return a shortlist for the best k labels: 540 + 50 k, and 790 at least.

    Twice that for a ranker that finds labels far down in the shortlist.

    Chosen on held-out rows: for the first five labels a longer one costs more than it brings; for
    more labels recall would suffer, and other stages cost more. `bench_search_sizes.py` prints
    both for any model.

    Parameters
    ----------
    k : int
        Labels wanted.
    ranker : RankerColumns or None
        What re-orders the best labels.

    Returns
    -------
    size : int
        Labels to score, or paths to follow where labels have bits; see `search_topk`.

    Examples
    --------
    >>> from skxmc.search.beam import auto_shortlist_size
    >>> auto_shortlist_size(5)
    790
    """
    far = ranker is not None and ranker.far
    return (540 + 50 * max(k, 5)) * (2 if far else 1)


def auto_rerank_size(k: int) -> int:
    """Return how many labels to re-order for the best k: 50, or 6 k if that is more.

    Parameters
    ----------
    k : int
        Labels wanted.

    Returns
    -------
    size : int
        Labels whose margins the ranker finds.

    Examples
    --------
    >>> from skxmc.search.beam import auto_rerank_size
    >>> auto_rerank_size(5), auto_rerank_size(100)
    (50, 600)
    """
    return max(50, 6 * k)


def search_topk(
    graph: SearchGraph,
    embeddings: np.ndarray,
    k: int,
    *,
    beam_width: int,
    shortlist_size: int | str = "auto",
    rerank_size: int | str | None = None,
    features: sp.csr_array | None = None,
) -> TopK:
    """Find the k labels with the largest score p = max_c(s_c a_cl)^path_power * sigmoid(z_l).

    Where the graph has a ranker, the best `rerank_size` of them, or k if that is more, get the
    score p^(1 - share) sigmoid(2 margin)^share instead.

    Parameters
    ----------
    graph : SearchGraph
        The model.
    embeddings : ndarray of shape (n_rows, embedding_dim), float32
        C-contiguous.
    k : int
        Labels a row.
    beam_width : int
        Clusters followed; clipped to their number.
    shortlist_size : int or "auto", default="auto"
        At least k; clipped to the number of labels. Labels scored at most, chosen by their paths.
        Where labels have bits it counts paths instead: the best `shortlist_size` to 1.25 times as
        many are followed, and as several may lead to one label, this many labels or fewer are
        scored by bits. "auto" is `auto_shortlist_size`.
    rerank_size : int, "auto" or None, default=None
        Labels that the ranker re-orders; "auto" is `auto_rerank_size(k)`, None the graph's own
        `ranker.size`. Without a ranker it takes no part.
    features : csr_array of shape (n_rows, n_features), float32, or None
        What the ranker reads.

    Returns
    -------
    topk : TopK
        Best first, ties by the smaller label; a row's result does not depend on its neighbours.

    Notes
    -----
    As many threads work as Numba may use (`numba.set_num_threads`), but they are Python's own:
    the search is safe under every threading layer of Numba, and one batch alone starts none.

    A shortlist is scored by vectors of few bits, which hardly ever miss one of the best k labels;
    the best k + max(8, k / 2), with a ranker k + max(3, k / 10), by the rows of `label_weight`,
    whose scores are returned.

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4.1 and figure 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.beam import search_topk
    >>> from skxmc.search.graph import SearchGraph
    >>> eye, zero = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    >>> edges = np.array([[0, 1]], dtype=np.int32)
    >>> graph = SearchGraph.from_padded(eye[:1], zero[:1], 1.0, edges, 0 * eye[:1], eye, zero)
    >>> search_topk(graph, eye[1:], 2, beam_width=1).indices
    array([[1, 0]])
    """
    embeddings = _read_only(embeddings)
    arrays = None if features is None else _csr_arrays(features)
    asked = _Asked(k, beam_width, shortlist_size, rerank_size)
    return _search(graph, _Rows(embeddings.shape[0], embeddings, None), arrays, asked)


def search_csr(
    graph: SearchGraph,
    X: sp.csr_array,
    k: int,
    *,
    beam_width: int,
    shortlist_size: int | str = "auto",
    rerank_size: int | str | None = None,
) -> TopK:
    """Embed sparse rows with the graph's own encoder and search with the embeddings.

    Parameters
    ----------
    graph : SearchGraph
        The model, with an `encoder`.
    X : csr_array of shape (n_rows, n_features), float32
        Canonical, with int32 indices.
    k, beam_width, shortlist_size, rerank_size : int
        As for `search_topk`.

    Returns
    -------
    topk : TopK
        As `search_topk` returns.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.search.beam import search_csr
    >>> from skxmc.search.graph import SearchGraph
    >>> from skxmc.search.parts import FeatureTable
    >>> eye, zero = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    >>> encoder = FeatureTable.from_floats(eye, zero[:0], True, 1.0)
    >>> edges = np.array([[0, 1]], dtype=np.int32)
    >>> rows = 0 * eye[:1]
    >>> graph = SearchGraph.from_padded(rows, zero[:1], 1.0, edges, rows, eye, zero, encoder)
    >>> search_csr(graph, sp.csr_array(eye[1:]), 2, beam_width=1).indices
    array([[1, 0]])
    """
    assert graph.encoder is not None
    encoder: FeatureTable = graph.encoder
    indptr, indices, data = _csr_arrays(X)

    def encode(rows: slice, out: np.ndarray) -> None:
        _kernels.encode_rows(
            indptr[rows.start : rows.stop + 1], indices, data, encoder.table,
            encoder.table_scale, encoder.column_scale, encoder.unit_rows, encoder.length, out,
        )  # fmt: skip

    arrays = (indptr, indices, data)
    asked = _Asked(k, beam_width, shortlist_size, rerank_size)
    return _search(graph, _Rows(X.shape[0], None, encode), arrays, asked)


class _Asked(NamedTuple):
    """What a search is asked for, as `search_topk` documents it."""

    k: int
    beam_width: int
    shortlist_size: int | str
    rerank_size: int | str | None


class _Rows(NamedTuple):
    """Rows to search for: their embeddings, or what writes those of a slice of rows."""

    size: int
    embeddings: np.ndarray | None
    encode: Callable[[slice, np.ndarray], None] | None


class _Call(NamedTuple):
    """A search as the kernels take it."""

    graph: SearchGraph
    width: int  # of beams
    k: int
    sizes: _kernels.Sizes
    log_alpha: float
    powers: tuple[np.float32, np.float32]
    features: tuple[np.ndarray, np.ndarray, np.ndarray]
    ranker: RankerArrays

    def scratch(self) -> _kernels.Scratch:
        return self.graph.scratch(self.width, self.sizes, self.k)

    def beams(self, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        shape = n_rows, self.width
        return np.empty(shape, np.int32), np.empty(shape, np.float32)

    def embeddings(self, rows: _Rows, part: slice) -> np.ndarray:
        if rows.embeddings is not None:
            return rows.embeddings[part]
        return np.empty((part.stop - part.start, self.graph.embedding_dim), np.float32)


def _search(graph: SearchGraph, rows: _Rows, features: tuple | None, asked: _Asked) -> TopK:
    k, width = asked.k, min(asked.beam_width, graph.n_clusters)
    ranker = _NO_RANKER if graph.ranker is None else graph.ranker
    powers = np.float32(graph.path_power), np.float32(ranker.share)
    call = _Call(
        graph, width, k, _sizes(asked, graph), float(np.log(graph.alpha)), powers,
        _NO_FEATURES if features is None else features, ranker.arrays,
    )  # fmt: skip
    out = TopK(np.empty((rows.size, k), np.int64), np.empty((rows.size, k), np.float32))
    if rows.size <= ROWS_AT_ONCE:
        _search_few(call, rows, out)
        return out
    n_threads = min(numba.get_num_threads(), -(-rows.size // ROWS_AT_ONCE))
    with ThreadPoolExecutor(n_threads) if n_threads > 1 else nullcontext() as pool:
        for part in gen_batches(rows.size, _SORTED_AT_ONCE):
            _search_sorted(call, rows, part, out, map if pool is None else pool.map)
    return out


def _search_few(call: _Call, rows: _Rows, out: TopK) -> None:
    """Search for all rows in their own order, in one call of a kernel."""
    every = slice(0, rows.size)
    embeddings = call.embeddings(rows, every)
    if rows.encode is not None:
        rows.encode(every, embeddings)
    _kernels.search_few(
        call.graph.arrays, _read_only(embeddings), call.log_alpha, call.beams(rows.size),
        np.arange(rows.size), *call.features, call.ranker, call.powers, call.sizes, call.scratch(),
        out.indices, out.scores,
    )  # fmt: skip


def _search_sorted(call: _Call, rows: _Rows, part: slice, out: TopK, run: Callable) -> None:
    """Find the beams of some rows, then, sorted by their best clusters, their labels."""
    n_rows = part.stop - part.start
    embeddings, beams = call.embeddings(rows, part), call.beams(n_rows)
    indptr, indices, data = call.features
    own_indptr = indptr[part.start : part.stop + 1]

    def find_beams(own: slice) -> None:
        if rows.encode is not None:
            shifted = slice(part.start + own.start, part.start + own.stop)
            rows.encode(shifted, embeddings[own])
        _kernels.find_beams(
            call.graph.arrays, _read_only(embeddings[own]), call.log_alpha,
            call.scratch().clusters, beams[0][own], beams[1][own],
        )  # fmt: skip

    def find_labels(own: slice) -> None:
        _kernels.search_rows(
            call.graph.arrays, _read_only(embeddings), beams, order[own], own_indptr, indices,
            data, call.ranker, call.powers, call.sizes, call.scratch(),
            out.indices[part], out.scores[part],
        )  # fmt: skip

    runs = list(gen_batches(n_rows, ROWS_AT_ONCE))
    list(run(find_beams, runs))
    order = np.argsort(beams[0][:, 0], kind="stable")
    list(run(find_labels, runs))


def _sizes(asked: _Asked, graph: SearchGraph) -> _kernels.Sizes:
    """How many labels go how far, such that hardly any of the best k gets lost on the way."""
    k, ranker = asked.k, graph.ranker
    n_ranked = 0 if ranker is None else _n_ranked(k, asked.rerank_size, ranker)
    n_ranked = min(n_ranked, graph.n_labels)
    spare = max(SPARE, k // 2)
    # with a ranker log scores count for a part, and so do the errors of codes
    few = spare if ranker is None else min(spare, max(FEW, k // 10))
    n_rescored = k + few
    n_coded = 32 + 3 * max(n_ranked, k + spare) // 2
    if graph.n_labels <= _FEW_LABELS:
        n_rescored = max(n_rescored, n_ranked)
    size = asked.shortlist_size
    size = auto_shortlist_size(k, ranker) if isinstance(size, str) else max(size, k)
    return _kernels.Sizes(min(size, graph.n_labels), n_coded, n_ranked, n_rescored)


def _n_ranked(k: int, size: int | str | None, ranker: RankerColumns) -> int:
    """How many labels the ranker re-orders."""
    if size is None:
        size = ranker.size or "auto"
    return auto_rerank_size(k) if isinstance(size, str) else max(k, size)


def warm_up() -> None:
    """Compile the search, or load it from Numba's cache, before the first query needs it.

    Examples
    --------
    >>> from skxmc.search.beam import warm_up
    >>> warm_up()
    """
    one = np.ones((1, 1), np.float32)
    encoder = FeatureTable.from_floats(one, np.zeros(0, np.float32), True, 1.0)
    edges = np.zeros((1, 1), np.int32)
    ranker = RankerColumns.from_rows(sp.csr_array(one), one[0], share=0.5, size=1)
    graph = SearchGraph.from_padded(one, one[0], 1.0, edges, one, one, one[0], encoder)
    graph = replace(graph, ranker=ranker)
    row, many = as_csr(one), as_csr(np.ones((ROWS_AT_ONCE + 1, 1), np.float32))
    is_plain_row(row, 1)
    for precision in (graph, graph.reduced()):
        for rows in (row, many):
            search_csr(precision, rows, 1, beam_width=1)


def _csr_arrays(X: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _read_only(X.indptr), _read_only(X.indices), _read_only(X.data)


def _read_only(array: np.ndarray) -> np.ndarray:
    """View an array as Numba has compiled it for: contiguous and read-only."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


# What stands in the kernels' arguments where there is no ranker.
_NO_FEATURES = _csr_arrays(as_csr(np.zeros((0, 0), np.float32)))
_NO_RANKER = RankerColumns(
    np.zeros((0, 4), np.int32), np.zeros(0, np.uint64), np.zeros(0, np.int32),
    np.zeros(0, np.uint64), np.zeros((0, 16), np.int16), np.zeros(0, np.int32),
    np.zeros(0, np.float32), np.zeros(0, np.float32), share=0.0, size=0,
)  # fmt: skip
