"""PECOS XR-Linear: PIFA label features, hierarchical k-means, defaults; loaded predict-only.

Parameters of loading: ``{"mode": "BINARY_SEARCH_CHUNKED" | "HASH_CHUNKED" | "mmap", "beam": 10}``;
without "beam" the model's own is taken, 20.
"""

from itertools import pairwise

import numpy as np
import protocol
import scipy.sparse as sp
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear.model import XLinearModel


class Pecos(protocol.Runner):
    """Takes float32 csr_matrix only."""

    def prepare_training(self, X, Y, folder):
        """Labels as float32 CSC."""
        return X.astype(np.float32), sp.csc_matrix(Y, dtype=np.float32)

    def train(self, data, folder):
        """Label features, tree, ranker."""
        X, Y = data
        features = LabelEmbeddingFactory.create(Y, X, method="pifa", threads=self.threads)
        chain = Indexer.gen(
            features, indexer_type="hierarchicalkmeans", threads=self.threads, seed=0
        )
        return XLinearModel.train(X, Y, C=chain, threads=self.threads)

    def save(self, model, folder):
        """Write npz files."""
        model.save(str(folder))

    def prepare_model(self, folder):
        """Compile the memory-mapped form beside the model."""
        if self._mode() == "mmap" and not self._mapped(folder).exists():
            XLinearModel.compile_mmap_model(str(folder), str(self._mapped(folder)))

    def load(self, folder):
        """Load into C++; the slow, trainable form is not measured."""
        if self._mode() == "mmap":
            self.model = XLinearModel.load(str(self._mapped(folder)), is_predict_only=True)
        else:
            self.model = XLinearModel.load(
                str(folder), is_predict_only=True, weight_matrix_type=self._mode()
            )

    def prepare_queries(self, X):
        """Float32."""
        return sp.csr_matrix(X, dtype=np.float32)

    def search(self, queries, k):
        """Beam search."""
        beam = self.params.get("beam")
        return self.model.predict(queries, beam_size=beam, only_topk=k, threads=self.threads)

    def as_topk(self, found, k):
        """From a CSR of scores, best first."""
        rows = []
        for start, stop in pairwise(found.indptr):
            labels, scores = found.indices[start:stop], found.data[start:stop]
            order = np.lexsort((labels, -scores))
            rows.append(list(zip(labels[order], scores[order], strict=True)))
        return protocol.pairs_to_topk(rows, k)

    def _mode(self) -> str:
        return self.params.get("mode", "BINARY_SEARCH_CHUNKED")

    @staticmethod
    def _mapped(folder):
        return folder.with_name(folder.name + ".mmap")


if __name__ == "__main__":
    protocol.main(Pecos)
