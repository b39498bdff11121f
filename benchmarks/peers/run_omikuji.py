"""Omikuji: three trees of Parabel by default, Bonsai by parameters.

Parameters of training are attributes of its hyper-parameters, e.g. ``{"cluster_balanced": false,
"cluster_k": 100, "max_depth": 3}`` for Bonsai. Parameter of loading: ``{"densify": 0.01}``.
It trains from a text file and answers one row a call; writing the file and making the lists of
pairs are not timed, reading the file is (`train_on_data` does it).
"""

from itertools import pairwise

import numpy as np
import omikuji
import protocol

BEAM = 10


class Omikuji(protocol.Runner):
    """Rows are lists of (feature, value) pairs."""

    def prepare_training(self, X, Y, folder):
        """Write the repository's text format; it cannot hold rows without features."""
        path = folder.with_name(folder.name + ".txt")
        kept = np.flatnonzero(np.diff(X.indptr))
        with path.open("w") as file:
            file.write(f"{kept.size} {X.shape[1]} {Y.shape[1]}\n")
            for row in kept:
                labels = Y.indices[Y.indptr[row] : Y.indptr[row + 1]]
                part = slice(X.indptr[row], X.indptr[row + 1])
                pairs = zip(X.indices[part].tolist(), X.data[part].tolist(), strict=True)
                features = " ".join(f"{column}:{value:.7g}" for column, value in pairs)
                file.write(f"{','.join(map(str, labels.tolist()))} {features}\n")
        return path

    def train(self, data, folder):
        """Read the file and train."""
        settings = omikuji.Model.default_hyper_param()
        for name, value in self.params.items():
            setattr(settings, name, value)
        return omikuji.Model.train_on_data(str(data), settings, n_threads=self.threads)

    def save(self, model, folder):
        """Write the model, remove the text."""
        model.save(str(folder))
        folder.with_name(folder.name + ".txt").unlink()

    def load(self, folder):
        """Load, and make weights dense if asked to."""
        self.model = omikuji.Model.load(str(folder))
        self.model.init_prediction_thread_pool(self.threads)
        if "densify" in self.params:
            self.model.densify_weights(self.params["densify"], n_threads=self.threads)

    def prepare_queries(self, X):
        """Make lists of pairs."""
        return [
            list(zip(X.indices[start:stop].tolist(), X.data[start:stop].tolist(), strict=True))
            for start, stop in pairwise(X.indptr)
        ]

    def search(self, queries, k):
        """One call a row: there is no other way."""
        return [self.model.predict(row, beam_size=BEAM, top_k=k) for row in queries]

    def as_topk(self, found, k):
        """From lists of pairs."""
        return protocol.pairs_to_topk(found, k)


if __name__ == "__main__":
    protocol.main(Omikuji)
