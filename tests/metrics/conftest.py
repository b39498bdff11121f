"""Lets worker processes import `toy_rankers`: they are handed sys.path, not pytest's modules."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
