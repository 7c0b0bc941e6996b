"""A LlamaIndex retriever; needs llama-index-core (``pip install 'clsr[llama-index]'``)."""

from __future__ import annotations

from clsr.errors import InputError
from clsr.extras import how_to_install
from clsr.index.config import Mode
from clsr.index.filters import Filter
from clsr.search.retriever import Retriever

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise InputError(how_to_install(["llama_index.core"])) from error


class ClsrRetriever(BaseRetriever):
    """Finds moments of speech, as nodes: the text is that of the window found, the metadata say where it is.

    Args:
        retriever: of the index.
        top_k: nodes at most.
        mode, only: as for ``Retriever.search``.
    """

    def __init__(
        self, retriever: Retriever, top_k: int = 5, mode: Mode | None = None, only: Filter | None = None
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.top_k = top_k
        self.mode = mode
        self.only = only

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self.retriever.search(query_bundle.query_str, self.top_k, self.mode, self.only)
        return [
            NodeWithScore(
                node=TextNode(
                    id_=f"{hit.recording}#t={hit.start_s:.3f},{hit.end_s:.3f}",
                    text=hit.window_text,
                    metadata=hit.values(),
                    # what stands in the text, or says nothing to a language model
                    excluded_llm_metadata_keys=["rank", "score", "text", "window_text", "matches", "tokens"],
                    excluded_embed_metadata_keys=list(hit.values()),
                ),
                score=hit.score,
            )
            for hit in hits
        ]
