"""Fault drills: loads in real worker processes between two servers, disturbed at a random moment, then compared."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# As for pytest, so that the package also runs without the Makefile.
if str(ROOT / "plugins") not in sys.path:
    sys.path.insert(0, str(ROOT / "plugins"))
