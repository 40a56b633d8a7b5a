"""The sample sources: an Odoo and an ACE database made from a seed, and the changes of a day."""

from __future__ import annotations

from revops.local.sample.advance import advance
from revops.local.sample.create import create

__all__ = ["SEED", "advance", "create"]

# Of the sample sources that people see: the same rows everywhere.
SEED = 303
