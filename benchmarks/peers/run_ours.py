"""skxmc's estimators, the model kept by joblib.

Parameters of training: ``{"estimator": "EliasClassifier" | "SNMClassifier", ...}`` and any of the
estimator's own. Parameters of loading are set on the fitted estimator, e.g. ``{"shortlist_size":
500}``. Before training is timed, a tiny fit compiles the kernels.
"""

import joblib
import protocol
import scipy.sparse as sp

from skxmc import EliasClassifier, SNMClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.search.beam import warm_up

# imported here, so that loading a model is not charged for importing torch
ESTIMATORS = {one.__name__: one for one in (EliasClassifier, SNMClassifier)}


class Ours(protocol.Runner):
    """Takes and gives what the library does."""

    def warm_up(self):
        """Compile all that is timed: rows are few, but enough for the ranker to hold some out."""
        warm_up()
        X, Y = make_xmc_classification(n_samples=600, n_labels=40, random_state=0)
        self._make().fit(X, Y).predict_topk(X[:5], k=5)

    def train(self, data, folder):
        """Fit."""
        return self._make().fit(*data)

    def save(self, model, folder):
        """Write with joblib."""
        joblib.dump(model, folder / "model.joblib")

    def load(self, folder):
        """Read with joblib."""
        self.model = joblib.load(folder / "model.joblib")
        self.model.set_params(n_jobs=self.threads, **self.params)

    def prepare_queries(self, X):
        """Canonical float32 CSR."""
        return sp.csr_array(X, dtype="float32")

    def search(self, queries, k):
        """Search."""
        return self.model.predict_topk(queries, k=k)

    def _make(self):
        params = dict(self.params)
        return ESTIMATORS[params.pop("estimator")](n_jobs=self.threads, **params)


if __name__ == "__main__":
    protocol.main(Ours)
