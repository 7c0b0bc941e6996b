"""Commands that write a model for other libraries: ``clsr export st``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clsr.cli.options import Folder, Ref, positional


@dataclass(kw_only=True)
class ExportSentenceTransformers:
    """Write a folder that sentence-transformers loads.

    Args:
        model: model to export.
        output: the new folder.
        text_encoder: text encoder to use in place of the model's own.
        multi_vector: encode tokens, for late interaction; sentence-transformers loads it as MultiVectorEncoder.
    """

    model: Ref = positional()
    output: Folder = positional()
    text_encoder: Annotated[str | None, "REF"] = None
    multi_vector: bool = False

    def run(self) -> None:
        """Write the folder, and say how it is loaded."""
        from clsr.adapters.sentence_transformers import export

        export(self.model, self.output, self.text_encoder, self.multi_vector)
        kind = "MultiVectorEncoder" if self.multi_vector else "SentenceTransformer"
        print(f'{self.output}: done; load it: {kind}("{self.output}", trust_remote_code=True)')
