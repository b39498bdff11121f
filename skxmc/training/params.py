"""Rules of the parameters of trained estimators: those that all have, and those of ELIAS."""

import os
from typing import Any

from joblib import effective_n_jobs

from skxmc._validation import blaming, check_bool, check_int, check_number, check_option
from skxmc.encoders.base import check_encoder
from skxmc.heads.start import LABEL_STARTS
from skxmc.metrics import get_scorer

__all__ = ["check_count", "check_elias_params", "check_n_jobs", "check_training_params"]


def check_training_params(estimator: Any) -> None:
    """Check what every training run reads, whatever the objective.

    Parameters
    ----------
    estimator : estimator
        Has the parameters named below.

    Raises
    ------
    ValueError, TypeError
        Naming estimator, parameter, rule and what was got.
    """
    if estimator.encoder is not None:
        with blaming(estimator, "encoder", estimator.encoder):
            check_encoder(estimator.encoder)
    for name in ("early_stopping", "warm_start"):
        check_bool(estimator, name, getattr(estimator, name))
    if not isinstance(estimator.verbose, bool):
        check_int(estimator, "verbose", estimator.verbose, minimum=0)
    check_number(estimator, "dropout", estimator.dropout, minimum=0, below=1)
    check_count(estimator, "batch_size", minimum=1)
    check_option(estimator, "label_init", estimator.label_init, LABEL_STARTS)
    for name in ("lr_labels", "lr_encoder"):
        check_number(estimator, name, getattr(estimator, name), above=0)
    check_number(estimator, "weight_decay", estimator.weight_decay, minimum=0)
    check_number(estimator, "warmup", estimator.warmup, minimum=0, maximum=1)
    if estimator.max_grad_norm is not None:
        check_number(estimator, "max_grad_norm", estimator.max_grad_norm, above=0)
    fraction = estimator.validation_fraction
    check_number(estimator, "validation_fraction", fraction, above=0, below=1)
    with blaming(estimator, "validation_metric", estimator.validation_metric):
        get_scorer(estimator.validation_metric)
    check_int(estimator, "patience", estimator.patience, minimum=1)
    check_option(estimator, "precision", estimator.precision, ("float32", "bfloat16"))
    _check_memory_limit(estimator)
    folder = estimator.checkpoint_dir
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"{type(estimator).__name__}: checkpoint_dir must be the path of a folder or None, "
            f"got {folder!r}."
        )
    check_n_jobs(estimator)


def check_elias_params(estimator: Any) -> None:
    """Check what `EliasClassifier` alone has in training."""
    check_bool(estimator, "recluster", estimator.recluster)
    check_count(estimator, "n_clusters", minimum=1)
    if estimator.n_clusters != "auto" and estimator.n_clusters & (estimator.n_clusters - 1):
        raise ValueError(
            f"{type(estimator).__name__}: n_clusters must be a power of two, "
            f"got {estimator.n_clusters!r}."
        )
    check_int(estimator, "max_leaf", estimator.max_leaf, minimum=1)
    for name in ("alpha", "path_power"):
        check_number(estimator, name, getattr(estimator, name), above=0)
    if estimator.beta != "auto":
        check_number(estimator, "beta", estimator.beta, above=0)
    for name in ("kappa", "pool_size", "n_negatives"):
        check_count(estimator, name, minimum=1)
    check_int(estimator, "train_shortlist_size", estimator.train_shortlist_size, minimum=1)
    check_number(estimator, "lambda_shortlist", estimator.lambda_shortlist, minimum=0)
    for name in ("stage1_epochs", "stage2_epochs"):
        check_count(estimator, name)
    for name in ("lr_clusters", "lr_edges", "stage2_factor"):
        check_number(estimator, name, getattr(estimator, name), above=0)


def _check_memory_limit(estimator: Any) -> None:
    limit = estimator.memory_limit
    if isinstance(limit, str):
        if limit != "auto":
            raise ValueError(
                f"{type(estimator).__name__}: memory_limit must be a number of GiB > 0, 'auto' or "
                f"None, got {limit!r}."
            )
    elif limit is not None:
        check_number(estimator, "memory_limit", limit, above=0)


def check_count(estimator: Any, name: str, minimum: int = 0) -> None:
    """Check a count that may be left to "auto"."""
    value = getattr(estimator, name)
    if value != "auto":
        check_int(estimator, name, value, minimum=minimum)


def check_n_jobs(estimator: Any) -> None:
    """Check the number of threads, which prediction reads too."""
    n_jobs = estimator.n_jobs
    # what is right is told at once: this is asked with each query
    if n_jobs is not None and not (type(n_jobs) is int and n_jobs != 0):
        check_int(estimator, "n_jobs", estimator.n_jobs)
        with blaming(estimator, "n_jobs", estimator.n_jobs):
            effective_n_jobs(estimator.n_jobs)
