"""Names of the paper's tables; cheap to import, since these are options too."""

from __future__ import annotations

from typing import Literal, get_args

TableName = Literal["2", "gains", "3", "4", "5", "6", "7", "noise", "summary"]
TABLE_NAMES: tuple[TableName, ...] = get_args(TableName)
"""Every table, in the order that they are written in."""
