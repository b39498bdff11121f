"""What makes two fits the same, in words."""

import numpy as np
import pytest
import torch

from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.negatives import UniformPool
from skxmc.training.identity import describe, differences

X, _ = make_xmc_classification(n_samples=20, n_features=9, n_labels=5, random_state=0)


class Slotted:
    __slots__ = ()


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (1, np.int64(1), 2),
        (0.5, np.float32(0.5), 0.25),
        ("a", "a", "b"),
        (None, None, 0),
        (True, np.True_, False),
        (np.arange(3), np.arange(3), np.arange(4)),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((3, 2))),
        (X, X.copy(), X[:, ::-1]),
        ([1, 2], [1, 2], [2, 1]),
        (["ab"] * 9, ["ab"] * 9, ["a", "b"] + ["ab"] * 8),
        (["a", "bc"] * 9, ["a", "bc"] * 9, ["ab", "c"] * 9),
        (BagOfWords(3), BagOfWords(3), BagOfWords(4)),
        (UniformPool(3), UniformPool(3), UniformPool(4)),
        (np.random.RandomState(0), np.random.RandomState(0), np.random.RandomState(1)),
        (
            torch.nn.Embedding.from_pretrained(torch.eye(2)),
            torch.nn.Embedding.from_pretrained(torch.eye(2)),
            torch.nn.Embedding.from_pretrained(2 * torch.eye(2)),
        ),
        (Slotted(), Slotted(), UniformPool(1)),
        (np.sum, np.sum, len),
    ],
    ids=str,
)
def test_descriptions_tell_apart_what_trains_differently(one, same, other):
    assert describe(one) == describe(same)
    assert describe(one) != describe(other)


def test_differences_name_what_is_missing():
    assert differences({"a": "1", "b": "2"}, {"b": "2", "c": "3"}) == [
        "a was 1 and is absent",
        "c was absent and is 3",
    ]
