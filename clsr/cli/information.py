"""What a model is: ``clsr info``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(kw_only=True)
class Info:
    """Say what a model is: languages, licence, sizes, where its weights are, and how well it works.

    Args:
        model: checkpoint folder, or a released model as SCHEME:PLACE; by default the one that clsr takes by default.
        json: print one object.
    """

    model: Annotated[str | None, "REF"] = None
    json: bool = False

    def run(self) -> None:
        """Print what is known of the model."""
        from clsr.systems.info import describe

        found = describe(self.model)
        print(found.to_json() if self.json else found)
