"""Runs the command line: ``python -m chandelier``."""

from __future__ import annotations

import sys

from chandelier.cli import main

if __name__ == "__main__":
    sys.exit(main())
