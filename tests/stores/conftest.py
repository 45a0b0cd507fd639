"""What the tests of stores share; pytest's importlib mode puts no folder on the path, and `contract` is one of many."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("contract", "reference")
