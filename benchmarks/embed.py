"""How fast documents and queries are encoded, beside FlagEmbedding's and sentence-transformers' own encode.

All in one run, in one process, on the same model and texts, each with the settings that suit it best. FlagEmbedding
returns dense and sparse results in memory; sentence-transformers dense ones; ours reads Parquet and writes shards.
On a machine with a GPU, weights of BGE-M3's full size are made and documents of 128 and 512 tokens encoded as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ROOT
from benchmarks.embed_claims import Measurements, make_claims
from benchmarks.encoders import Figures, Job
from benchmarks.report import describe_machine, print_claims

RESULTS = ROOT / "benchmarks" / "results" / "embed.json"
PYTHON = ROOT / ".venv-embedding" / "bin" / "python"
PACKAGE = ROOT / "include" / "embedding"
SECTIONS = ("host", "batch", "query", "full")
TITLES = {
    "host": "What a document costs the processor beside the model, which is stubbed out",
    "batch": "Documents of mixed length",
    "query": "One query at a time (medians)",
}


def measure(job: Job, console: Console) -> Measurements:
    """Run the worker and gather what it tells; raises SystemExit when it fails."""
    paths = f"{ROOT}{os.pathsep}{PACKAGE}"
    environment = {**os.environ, **job.as_variable(), "PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "true"}
    # As the encoder's command line sets it; the others gain as much by it.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = [str(PYTHON), "-m", "benchmarks.encoders.worker"]
    measurements = Measurements()
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            event = json.loads(line)
            measurements.add(event)
            _say(event, console)
    if process.returncode:
        raise SystemExit(f"the encoders ended with {process.returncode}; what they said stands above")
    return measurements


def _say(event: dict[str, Any], console: Console) -> None:
    if event["event"] == "machine":
        for name in ("device", "name", "dtype", "model", "torch"):
            console.print(f"{name:12} {event[name]}", highlight=False)
        for dtype, peak in event["peaks"].items():
            console.print(f"{'peak':12} {peak / 1e12:.3g} TFLOP/s in {dtype}, measured", highlight=False)
    elif event["event"] == "figures":
        console.print(f"[dim]{event['section']}: {event['contender']} {event['wall']:.3f} s[/]", highlight=False)


def _print(title: str, figures: Sequence[Figures], console: Console) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("documents", "documents/s", "tokens/s", "ms a document", "CPU ms a document", "padded/real"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(item.contender for item in figures):
        runs = [item for item in figures if item.contender == name]
        one, wall, cpu = runs[0], median(item.wall for item in runs), median(item.cpu for item in runs)
        table.add_row(
            name,
            f"{one.documents:,}",
            f"{one.documents / wall:,.1f}",
            f"{one.tokens / wall:,.0f}" if one.tokens else "",
            f"{1e3 * wall / one.documents:.3g}",
            f"{1e3 * cpu / one.documents:.3g}",
            f"{one.padded / one.tokens:.3f}" if one.padded else "",
        )
    console.print(table)


def _model(given: Path | None, home: Path) -> Path:
    local = ROOT / ".local" / "model"
    if given or (local / "tokenizer.json").exists():
        return given or local
    command = [str(PYTHON), "-m", "embedding", "demo-model", "--output", str(home / "model")]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PACKAGE)}, check=True, stdout=subprocess.DEVNULL)
    return home / "model"


def _has_gpu() -> bool:
    # The driver's own file: torch is not installed in this environment.
    return Path("/proc/driver/nvidia/version").exists()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embed", description=__doc__)
    parser.add_argument("--rows", type=int, help="documents in a batch; 256 on a CPU, 8192 on a GPU")
    parser.add_argument("--rounds", type=int, default=1, help="how often each contender encodes them")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, help="sections to run")
    parser.add_argument("--quick", action="store_true", help="a few documents: does it work at all?")
    parser.add_argument("--model", type=Path, help="model directory; without it the small model of `make demo`")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="threads that compute on a CPU; all its cores")
    parser.add_argument("--full-size", action="store_true", help="BGE-M3's size without a GPU too: minutes a figure")
    return parser.parse_args()


def main() -> int:
    """Run every section and print the tables and the claims."""
    arguments = _arguments()
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON.relative_to(ROOT)} is missing. Remedy: `make install`")
    console = Console(width=None if sys.stdout.isatty() else 160)
    is_gpu = arguments.device != "cpu" and _has_gpu()
    full_size = arguments.full_size or is_gpu
    sections = tuple(arguments.only or (SECTIONS if full_size else SECTIONS[:-1]))
    documents = 16 if arguments.quick else arguments.rows or (8_192 if is_gpu else 256)
    machine = describe_machine()
    for name, value in machine.items():
        console.print(f"{name:12} {value}", highlight=False)
    with tempfile.TemporaryDirectory() as home:
        job = Job(
            model=str(_model(arguments.model, Path(home)).resolve()),
            home=home,
            device=arguments.device,
            documents=documents,
            host_documents=512 if arguments.quick else 16_384,
            full_documents=documents if is_gpu else 16,
            queries=5 if arguments.quick else 50,
            rounds=arguments.rounds,
            full_size=full_size,
            threads=arguments.threads,
            sections=sections,
        )
        measurements = measure(job, console)
    for section in measurements.sections():
        title = TITLES.get(section, f"Documents of {section} each")
        _print(title, measurements.figures[section], console)
    claims = make_claims(measurements)
    print_claims(console, claims)
    if measurements.device != "cuda":
        console.print("No GPU was found: what is claimed of one was not measured here. The same command measures it.")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "events": measurements.events, "claims": [vars(claim) for claim in claims]}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"every figure: {RESULTS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
