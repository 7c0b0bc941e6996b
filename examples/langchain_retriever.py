"""Search an index as a LangChain retriever: pip install '.[langchain]'.

python examples/langchain_retriever.py my-index \\
  "what did mothers tell children who would not sleep?"
"""

import argparse

import clsr
from clsr.adapters.langchain import ClsrRetriever


def main() -> None:
    parser = argparse.ArgumentParser(description="Search an index as a LangChain retriever.")
    parser.add_argument("index", help="folder of the index, which knows the model that built it")
    parser.add_argument("question")
    options = parser.parse_args()

    retriever = ClsrRetriever(retriever=clsr.Retriever.open(options.index), top_k=3)
    for document in retriever.invoke(options.question):  # any chain takes the retriever in the same way
        place = document.metadata
        print(f"{place['recording']} {place['start_s']:.1f}-{place['end_s']:.1f} s: {document.page_content}")


if __name__ == "__main__":
    main()
