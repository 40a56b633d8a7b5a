"""The model's supply: fetched once, verified, as safetensors, whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from embedding.checkpoint import NAME_FILE
from embedding.download import PAUSES, digest, download, verify
from embedding.errors import FetchError, OutputError, UsageError
from embedding.manifest import WEIGHTS, File, Manifest

Emit = Callable[[dict[str, Any]], None]

HUGGING_FACE = "https://huggingface.co"
SAFETENSORS = "model.safetensors"
# Beyond what is written: directories, and room for whoever else uses the disk.
SPARE_BYTES = 64 * 1024 * 1024


def fetch(
    manifest: Manifest,
    *,
    output: Path,
    emit: Emit,
    endpoint: str = HUGGING_FACE,
    source: Path | None = None,
    pauses: tuple[float, ...] = PAUSES,
) -> bool:
    """Make the model directory unless it is there already, unharmed; return whether it was made.

    `source`: a folder that holds the files, instead of the network. What an interrupted call has fetched is gone on
    with. Raises FetchError, OutputError, UsageError.
    """
    started = time.monotonic()
    if source is None and urlsplit(endpoint).scheme not in ("http", "https"):
        raise UsageError(f"--endpoint {endpoint!r} is no http(s) address, such as {HUGGING_FACE}")
    _refuse_other_content(output, manifest)
    is_new = not _is_whole(output, manifest)
    if is_new:
        with _aside(output) as aside:
            _check_space(manifest, aside, source)
            for file in manifest.files:
                _obtain(manifest, file, aside, emit, endpoint=endpoint, source=source, pauses=pauses)
            _finish(manifest, aside, source, emit)
            if output.exists():
                shutil.rmtree(output)
            aside.rename(output)
    seconds = round(time.monotonic() - started, 3)
    emit(
        {"event": "model", "model_name": manifest.repository, "path": str(output), "built": is_new, "seconds": seconds}
    )
    return is_new


def _refuse_other_content(output: Path, manifest: Manifest) -> None:
    if output.is_dir() and (not any(output.iterdir()) or _read_about(output).get("source") == manifest.repository):
        return
    if output.exists():
        raise OutputError(
            f"{output} holds something else than {manifest.repository} as fetched here: use another --output, and "
            "--from for a folder that has the files already"
        )


def _is_whole(output: Path, manifest: Manifest) -> bool:
    about = _read_about(output)
    if about.get("revision") != manifest.revision:
        return False
    kept = {**about["files"], SAFETENSORS: about["safetensors"]}
    kept.pop(WEIGHTS)
    return all((output / name).is_file() and digest(output / name) == sha256 for name, sha256 in kept.items())


def _read_about(directory: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((directory / NAME_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return about


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """Yield the directory in which the model is put together; it stays there when the call fails."""
    aside = output.with_name(f".{output.name}.partial")
    try:
        aside.mkdir(parents=True, exist_ok=True)
        handle = os.open(aside, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot write to {output.parent} ({error.strerror}): check its owner and rights") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield aside
    except BlockingIOError as error:
        raise OutputError(f"another process is making {output}: wait for it") from error
    except OSError as error:
        what = f"{error.filename or aside} ({error.strerror or error})"
        raise OutputError(f"cannot write {what}: check owner, rights and free space, then run it again") from error
    finally:
        os.close(handle)


def _check_space(manifest: Manifest, aside: Path, source: Path | None) -> None:
    needed = SPARE_BYTES + manifest.weights.size
    for file in manifest.files:
        if source is None or file.name != WEIGHTS:
            parts = (aside / file.name, aside / f"{file.name}.part")
            needed += file.size - max((path.stat().st_size for path in parts if path.exists()), default=0)
    free = shutil.disk_usage(aside).free
    if free < needed:
        raise OutputError(f"{aside.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: free some")


def _obtain(
    manifest: Manifest,
    file: File,
    aside: Path,
    emit: Emit,
    *,
    endpoint: str,
    source: Path | None,
    pauses: tuple[float, ...],
) -> None:
    target = aside / file.name
    if target.exists():  # only what was verified has this name
        return
    if source is None:
        address = f"{endpoint.rstrip('/')}/{manifest.repository}/resolve/{manifest.revision}/{quote(file.name)}"
        download(address, file, target, emit, pauses=pauses)
    else:
        given = source / file.name
        if not given.is_file():
            raise FetchError(f"{given} is missing: --from needs all of {', '.join(f.name for f in manifest.files)}")
        verify(given, file, source=str(given))
        if file.name != WEIGHTS:  # which are converted from where they lie
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            shutil.copyfile(given, part)
            part.replace(target)
    emit({"event": "verified", "file": file.name, "bytes": file.size, "sha256": file.sha256})


def _finish(manifest: Manifest, aside: Path, source: Path | None, emit: Emit) -> None:
    # Two seconds to import: spared where the model is there.
    from embedding.convert import to_safetensors

    tensors = to_safetensors((source or aside) / WEIGHTS, aside / SAFETENSORS)
    sha256 = digest(aside / SAFETENSORS)
    emit({"event": "converted", "file": SAFETENSORS, "tensors": tensors, "sha256": sha256})
    about = {
        "name": manifest.repository,
        "source": manifest.repository,
        "revision": manifest.revision,
        "license": manifest.license,
        "files": {file.name: file.sha256 for file in manifest.files},
        "safetensors": sha256,
    }
    (aside / NAME_FILE).write_text(json.dumps(about, indent=2) + "\n")
    kept = {file.name for file in manifest.files} - {WEIGHTS} | {SAFETENSORS, NAME_FILE}
    for path in [path for path in aside.rglob("*") if path.is_file()]:
        if path.relative_to(aside).as_posix() not in kept:
            path.unlink()
    # The container reads the model as another user.
    for path in (aside, *aside.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
