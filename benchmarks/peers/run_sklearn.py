"""scikit-learn's OneVsRestClassifier(LinearSVC()): feasible where labels are few."""

import joblib
import numpy as np
import protocol
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC


class OneVsRest(protocol.Runner):
    """One linear classifier a label, dense scores."""

    def prepare_training(self, X, Y, folder):
        """Make labels int64: with int8 the classifiers of scikit-learn 1.9.1 come out wrong."""
        return X, Y.astype("int64")

    def train(self, data, folder):
        """Fit, one label after the other (worker processes would copy X)."""
        X, Y = data
        return OneVsRestClassifier(LinearSVC(random_state=0)).fit(X, Y)

    def save(self, model, folder):
        """Write with joblib."""
        joblib.dump(model, folder / "model.joblib")

    def load(self, folder):
        """Read with joblib."""
        self.model = joblib.load(folder / "model.joblib")

    def search(self, queries, k):
        """Scores of all labels, and the best k of them."""
        scores = self.model.decision_function(queries)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(scores, order, axis=1)


if __name__ == "__main__":
    protocol.main(OneVsRest)
