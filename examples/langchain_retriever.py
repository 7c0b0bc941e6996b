"""Search an index as a LangChain retriever: pip install 'clsr[langchain]'.

python examples/langchain_retriever.py recipes/mini/exp/joint my-index "who sold the old horse?"
"""

import argparse

import clsr
from clsr.adapters.langchain import ClsrRetriever


def main() -> None:
    parser = argparse.ArgumentParser(description="Search an index as a LangChain retriever.")
    parser.add_argument("model", help="checkpoint folder that built the index")
    parser.add_argument("index", help="folder of the index")
    parser.add_argument("question")
    options = parser.parse_args()

    model = clsr.load(options.model)
    retriever = ClsrRetriever(retriever=clsr.Retriever(clsr.Index.open(options.index, model), model), top_k=3)
    for document in retriever.invoke(options.question):  # any chain takes the retriever in the same way
        place = document.metadata
        print(f"{place['recording']} {place['start_s']:.1f}-{place['end_s']:.1f} s: {document.page_content}")


if __name__ == "__main__":
    main()
