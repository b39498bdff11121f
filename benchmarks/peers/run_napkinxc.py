"""napkinXC: probabilistic label tree or binary relevance, defaults.

Parameter of training and loading: ``{"model": "PLT" | "BR"}``. Prediction is exact, the default.
"""

import protocol
import scipy.sparse as sp
from napkinxc.models import BR, PLT

MODELS = {"PLT": PLT, "BR": BR}


class Napkin(protocol.Runner):
    """The model lives in its folder: training writes it there."""

    def train(self, data, folder):
        """Train into the folder."""
        X, Y = data
        self._make(folder).fit(X, sp.csr_matrix(Y, dtype="float32"))

    def load(self, folder):
        """Read the weights."""
        self.model = self._make(folder)
        self.model.load()

    def prepare_queries(self, X):
        """Make csr_matrix: csr_array is refused."""
        return sp.csr_matrix(X)

    def search(self, queries, k):
        """Find lists of (label, probability)."""
        return self.model.predict_proba(queries, top_k=k)

    def as_topk(self, found, k):
        """From lists of pairs."""
        return protocol.pairs_to_topk(found, k)

    def _make(self, folder):
        return MODELS[self.params["model"]](str(folder), threads=self.threads, seed=0)


if __name__ == "__main__":
    protocol.main(Napkin)
