"""Displays in scikit-learn's style; matplotlib is imported when something is drawn."""

from typing import Any

from skxmc._validation import check_int
from skxmc.metrics import ReliabilityCurve, reliability_curve
from skxmc.metrics._inputs import as_truth
from skxmc.metrics._ranker import rank_labels

__all__ = ["ReliabilityDisplay"]


class ReliabilityDisplay:
    """Reliability diagram: the share of true labels over the mean score, bin by bin.

    Made by `from_estimator` or `from_predictions`, which draw at once.

    Parameters
    ----------
    curve : ReliabilityCurve
        What `skxmc.metrics.reliability_curve` returns.
    name : str, optional
        Name in the legend.

    Attributes
    ----------
    curve : ReliabilityCurve
        The data.
    name : str or None
        The name.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    line_ : matplotlib Line2D
        The curve.

    See Also
    --------
    skxmc.calibration.CalibratedTopKClassifier : Brings the curve to the diagonal.

    References
    ----------
    M. H. DeGroot, S. E. Fienberg, "The comparison and evaluation of forecasters", 1983; the
    counterpart of `sklearn.calibration.CalibrationDisplay`.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.inspection import ReliabilityDisplay
    >>> from skxmc.metrics import reliability_curve
    >>> from skxmc.topk import TopK
    >>> top = TopK(np.array([[0, 1], [1, 0]]), np.array([[0.9, 0.4], [0.7, 0.2]]))
    >>> display = ReliabilityDisplay(reliability_curve(np.eye(2), top, n_bins=2))
    >>> display.curve.share_true.tolist()
    [0.0, 1.0]
    """

    ax_: Any
    figure_: Any
    line_: Any

    def __init__(self, curve: ReliabilityCurve, *, name: str | None = None):
        self.curve = curve
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        k=5,
        n_bins=10,
        strategy="uniform",
        name=None,
        ref_line=True,
        ax=None,
        line_kw=None,
    ) -> "ReliabilityDisplay":
        """Ask a fitted estimator for the best k labels of each row, and draw how reliable they are.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with `predict_topk`, or with such an estimator at its end.
        X : {array-like, sparse, list of str} of n_rows rows
            What the estimator takes; rows it was not trained on.
        y : {sparse, array-like} of shape (n_rows, n_labels)
            0/1 indicator of the true labels.
        k : int, default=5
            Labels of each row to look at; clipped to the number of labels.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or of equally many labels.
        name : str, optional
            Name in the legend; by default the estimator's class.
        ref_line : bool, default=True
            Whether to draw the diagonal, on which scores are right.
        ax : matplotlib Axes, optional
            Where to draw; by default in a new figure.
        line_kw : dict, optional
            Passed on to `matplotlib.pyplot.plot` for the curve.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        TypeError
            If the estimator has no `predict_topk`.
        ValueError
            If its scores are not in [0, 1].
        """
        check_int(cls.__name__, "k", k, minimum=1)
        truth = as_truth(y)
        return cls.from_predictions(
            truth,
            rank_labels(estimator, X, min(k, truth.shape[1])),
            n_bins=n_bins,
            strategy=strategy,
            name=type(estimator).__name__ if name is None else name,
            ref_line=ref_line,
            ax=ax,
            line_kw=line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_score,
        *,
        n_bins=10,
        strategy="uniform",
        name=None,
        ref_line=True,
        ax=None,
        line_kw=None,
    ) -> "ReliabilityDisplay":
        """Draw how reliable given scores are.

        Parameters
        ----------
        y_true : {sparse, array-like} of shape (n_rows, n_labels)
            0/1 indicator of the true labels.
        y_score : TopK or sparse array of shape (n_rows, n_labels)
            Probabilities of labels.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or of equally many labels.
        name : str, optional
            Name in the legend.
        ref_line : bool, default=True
            Whether to draw the diagonal, on which scores are right.
        ax : matplotlib Axes, optional
            Where to draw; by default in a new figure.
        line_kw : dict, optional
            Passed on to `matplotlib.pyplot.plot` for the curve.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        ValueError
            If a score is not in [0, 1], or the data do not fit together.
        """
        curve = reliability_curve(y_true, y_score, n_bins=n_bins, strategy=strategy)
        return cls(curve, name=name).plot(ax=ax, ref_line=ref_line, line_kw=line_kw)

    def plot(self, ax=None, *, ref_line=True, line_kw=None) -> "ReliabilityDisplay":
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default in a new figure.
        ref_line : bool, default=True
            Whether to draw the diagonal, on which scores are right.
        line_kw : dict, optional
            Passed on to `matplotlib.pyplot.plot` for the curve.

        Returns
        -------
        display : ReliabilityDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        if ax is None:
            _, ax = _pyplot(type(self).__name__).subplots()
        if ref_line:
            ax.plot([0, 1], [0, 1], color="gray", linestyle=":", zorder=0)
        held = self.curve.counts > 0
        style = {"marker": "o", "label": self.name, **(line_kw or {})}
        (self.line_,) = ax.plot(self.curve.mean_score[held], self.curve.share_true[held], **style)
        ax.set(xlabel="mean score", ylabel="share of true labels")
        if self.line_.get_label() and not self.line_.get_label().startswith("_"):
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _pyplot(owner: str):
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{owner} draws with matplotlib, which is not installed: pip install 'skxmc[plot]'."
        ) from error
    return pyplot
