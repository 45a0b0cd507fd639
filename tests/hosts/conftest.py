"""What the tests of all hosts share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
pytest.register_assert_rewrite("hosts_contract")
