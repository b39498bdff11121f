"""The user guide's examples say what the package does."""

import doctest
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parent.parent / "docs" / "user_guide"
WITH_EXAMPLES = [page for page in sorted(PAGES.glob("*.rst")) if ">>>" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples(page):
    outcome = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert outcome.attempted > 0
    assert outcome.failed == 0
