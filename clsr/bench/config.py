"""Parts of the benchmark; cheap to import, since these are options too."""

from __future__ import annotations

from typing import Literal, get_args

Part = Literal["stages", "shapes", "path", "baselines", "search", "training"]
PARTS: tuple[Part, ...] = get_args(Part)
