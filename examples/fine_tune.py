"""Fine-tune a model on retrieval sets of your own, then measure it.

python examples/fine_tune.py recipes/mini/exp/asr my-data exp/tuned --max-steps 500

my-data holds two retrieval sets, train/ and dev/; `clsr data make` writes them.
"""

import argparse
from pathlib import Path

from clsr.checkpoint_folder import load_config
from clsr.evaluation.measure import evaluate
from clsr.training.joint import train_joint


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune a model on retrieval sets of your own, then measure it.")
    parser.add_argument("start", type=Path, help="checkpoint folder to start from")
    parser.add_argument("data", type=Path, help="folder with the retrieval sets train/ and dev/")
    parser.add_argument("output", type=Path, help="checkpoint folder to write")
    parser.add_argument("--max-steps", type=int, default=500)
    options = parser.parse_args()

    settings = load_config(options.start)  # the sizes of the networks have to stay as they are
    settings.optimizer.max_steps = options.max_steps
    train_joint(settings, options.data, options.output, start=options.start)

    for row in evaluate([options.output], options.data / "dev").rows:
        print(f"{row.name:14} recall@1 {row.q2c.intervals['recall@1'].value:.3f}")


if __name__ == "__main__":
    main()
