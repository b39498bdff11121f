"""Model selection with sparse targets: what scikit-learn's own functions refuse or lack.

`GridSearchCV`, `RandomizedSearchCV`, `HalvingGridSearchCV`, `cross_val_predict` and
`train_test_split` of scikit-learn take a sparse y as they are and have no twin here.
"""

from skxmc.model_selection._prediction import prediction_curve
from skxmc.model_selection._splitters import LabelCoverKFold, LabelCoverShuffleSplit
from skxmc.model_selection._validation import cross_validate, learning_curve, validation_curve

__all__ = [
    "LabelCoverKFold",
    "LabelCoverShuffleSplit",
    "cross_validate",
    "learning_curve",
    "prediction_curve",
    "validation_curve",
]
