"""A LangChain retriever; needs langchain-core (``pip install 'clsr[langchain]'``)."""

from __future__ import annotations

from pydantic import ConfigDict

from clsr.errors import InputError
from clsr.extras import how_to_install
from clsr.index.config import Mode
from clsr.index.filters import Filter
from clsr.search.retriever import Retriever

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise InputError(how_to_install(["langchain_core"])) from error


class ClsrRetriever(BaseRetriever):
    """Finds moments of speech, as documents: the text is that of the window found, the metadata say where it is.

    Attributes:
        retriever: of the index.
        top_k: documents at most.
        mode, only: as for ``Retriever.search``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    retriever: Retriever
    top_k: int = 5
    mode: Mode | None = None
    only: Filter | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        hits = self.retriever.search(query, self.top_k, self.mode, self.only)
        return [
            Document(id=f"{hit.recording}#t={hit.start_s:.3f},{hit.end_s:.3f}", page_content=hit.window_text,
                     metadata=hit.values())
            for hit in hits
        ]  # fmt: skip
