"""The label head and the log prior."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from skxmc.heads import LabelHead, log_prior
from skxmc.ops.row_table import CsrBatch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
INDPTR, LABELS = [0, 2, 2, 5], [4, 0, 1, 0, 3]
ROWS = [0, 0, 2, 2, 2]


@pytest.fixture(params=DEVICES)
def head_and_shortlist(request):
    head = LabelHead(torch.linspace(-1, 1, 6), embedding_dim=3, lr=0.1).to(request.param)
    parts = (
        torch.tensor(part, dtype=torch.int32, device=request.param) for part in (INDPTR, LABELS)
    )
    return head, CsrBatch(*parts)


def test_logits_against_dense(head_and_shortlist):
    head, shortlist = head_and_shortlist
    assert head.n_labels == 6
    assert not head.rows.weight.any()
    torch.manual_seed(0)
    head.rows.weight.normal_()
    embeddings = torch.randn(3, 3, device=head.rows.weight.device)
    dense = embeddings @ head.rows.weight.T + head.rows.bias
    logits = head(embeddings, shortlist).detach()
    torch.testing.assert_close(logits, dense[ROWS, LABELS], rtol=1e-5, atol=1e-6)


def test_steps_are_row_wise_adagrad_of_the_loss(head_and_shortlist):
    head, shortlist = head_and_shortlist
    device = head.rows.weight.device
    bias = head.rows.bias.cpu().double()
    embeddings = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, -1.0, 1.0]], device=device)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], device=device)
    logits = head(embeddings, shortlist)
    F.binary_cross_entropy_with_logits(logits, target, reduction="sum").backward()
    head.rows.step()
    # weights start at 0, so that the logits are the biases
    error = torch.sigmoid(bias[LABELS]) - target.cpu().double()
    gradient = torch.zeros(6, 3).double()
    gradient.index_add_(0, torch.tensor(LABELS), error[:, None] * embeddings.cpu().double()[ROWS])
    errors = torch.zeros(6).double().index_add_(0, torch.tensor(LABELS), error)
    rate = torch.zeros(6).double()
    met = sorted(set(LABELS))
    rate[met] = 0.1 / gradient[met].square().mean(dim=1).sqrt()
    np.testing.assert_allclose(head.rows.weight.cpu(), -rate[:, None] * gradient, rtol=1e-4)
    np.testing.assert_allclose(head.rows.bias.cpu(), bias - rate * errors, rtol=1e-4)


def test_weight_decay_shrinks_vectors_not_biases():
    head = LabelHead(torch.ones(1), embedding_dim=2, lr=0.1, weight_decay=0.5)
    head.rows.weight.fill_(1.0)
    shortlist = CsrBatch(torch.tensor([0, 1]), torch.tensor([0]))
    (0.0 * head(torch.ones(1, 2), shortlist)).sum().backward()
    head.rows.step()
    np.testing.assert_allclose(head.rows.weight, [[0.95, 0.95]], rtol=1e-6)
    np.testing.assert_array_equal(head.rows.bias, [1.0])


@given(n_rows=st.integers(0, 10**6), data=st.data())
def test_log_prior_is_the_log_odds(n_rows, data):
    counts = data.draw(st.lists(st.integers(0, n_rows), min_size=1, max_size=5))
    bias = log_prior(np.array(counts), n_rows)
    assert bias.dtype == np.float32
    expected = [math.log((c + 0.5) / (n_rows - c + 0.5)) for c in counts]
    np.testing.assert_allclose(bias, expected, rtol=1e-6, atol=1e-6)
