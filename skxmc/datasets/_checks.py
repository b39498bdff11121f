"""Rules for the matrices that are written to files or come from them."""

import numpy as np
import scipy.sparse as sp

from skxmc._sparse import as_csr


def check_features(owner: str, X) -> sp.csr_array:
    """Return X as canonical float32 CSR, or raise if a value is NaN or infinite in float32."""
    X = as_csr(X)
    if not np.isfinite(X.data).all():
        raise ValueError(
            f"{owner}: X holds NaN or values infinite in float32. Only finite values are allowed; "
            "clean or scale X."
        )
    return X


def check_targets(owner: str, Y) -> sp.csr_array:
    """Return Y as canonical int8 CSR without stored zeros, or raise if a value is not 0 or 1."""
    Y = as_csr(Y, dtype=None)
    strange = (Y.data != 0) & (Y.data != 1)
    if strange.any():
        raise ValueError(
            f"{owner}: Y must hold 0 and 1 only, got {Y.data[strange][0].item()!r}. "
            "Pass `(Y > threshold)` of your choice for weights."
        )
    if not Y.data.all():
        Y = Y.copy()
        Y.eliminate_zeros()
    return as_csr(Y, dtype=np.int8)


def check_pair(owner: str, X, Y) -> tuple[sp.csr_array, sp.csr_array]:
    """Return X and Y in their canonical forms, or raise if their numbers of rows differ."""
    X, Y = check_features(owner, X), check_targets(owner, Y)
    if X.shape[0] != Y.shape[0]:
        raise ValueError(
            f"{owner}: X has {X.shape[0]} rows and Y has {Y.shape[0]}; the numbers must be equal."
        )
    return X, Y
