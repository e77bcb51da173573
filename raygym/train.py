"""``python -m raygym.train``: trains an agent; ``--help`` lists the settings."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import tyro

from raygym.errors import ConfigError, RaygymError
from raygym.training.config import TrainConfig
from raygym.training.trainer import train

EXIT_FAILED = 1
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags and trains; returns the exit status."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    try:
        config = tyro.cli(TrainConfig, prog="python -m raygym.train", args=arguments)
        summary = train(config)
    except ConfigError as error:
        print(f"raygym.train: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RaygymError as error:
        print(f"raygym.train: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED
    score = summary["mean_score"]
    print(
        f"{summary['env_steps']} steps, {summary['episodes']} episodes, "
        f"{summary['steps_per_s']:.1f} steps/s, mean score "
        f"{'-' if score is None else f'{score:.2f}'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
