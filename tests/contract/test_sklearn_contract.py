"""scikit-learn's own checks, on default parameters, with nothing expected to fail."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from .estimators import ESTIMATORS

ROOT = Path(__file__).resolve().parents[2]


@parametrize_with_checks(ESTIMATORS)
def test_sklearn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def checks_with_array_api():
    """Check all estimators at once, each in a process of its own: scipy reads it when imported."""
    started = {}
    for estimator in ESTIMATORS:
        module, name = type(estimator).__module__, type(estimator).__name__
        code = f"""
            from {module} import {name}
            from sklearn.utils.estimator_checks import check_estimator

            results = check_estimator({name}(), on_skip=None)
            by_status = {{}}
            for result in results:
                by_status.setdefault(result["status"], []).append(result["check_name"])
            print(len(by_status.pop("passed")), by_status)
        """
        started[name] = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "SCIPY_ARRAY_API": "1"},
        )
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", [type(estimator).__name__ for estimator in ESTIMATORS])
def test_with_array_api_dispatch(name, checks_with_array_api):
    done = checks_with_array_api[name]
    stdout, stderr = done.communicate()
    assert done.returncode == 0, stderr
    passed, _, rest = stdout.partition(" ")
    assert int(passed) > 40
    # the one that may be skipped asks for predict_proba, which a beam search has not got
    assert "failed" not in rest
    assert "xfail" not in rest
