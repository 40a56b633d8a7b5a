"""What a model directory holds: its shape, pooling, prompts and the files that decide its vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from embedding.errors import ModelError

Pooling = Literal["cls", "mean"]

SPARSE_HEAD = "sparse_linear.pt"
COLBERT_HEAD = "colbert_linear.pt"
POOLING_FILE = "1_Pooling/config.json"
PROMPTS_FILE = "config_sentence_transformers.json"
NAME_FILE = "revops_model.json"

_POOLING_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}

# In the order in which transformers looks for them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
REMEDY = (
    "fetch BGE-M3 with `make model` (`embed fetch-model`), build the small one with `python -m embedding demo-model`, "
    "or name a directory that has one with --model"
)


@dataclass(frozen=True)
class Checkpoint:
    """Describe a model directory; `files` are relative and sorted, `max_tokens` counts special tokens too."""

    path: Path
    name: str
    dim: int
    vocabulary: int
    max_tokens: int
    pad_id: int
    pooling: Pooling
    prompts: Mapping[str, str]
    special_tokens: frozenset[str]
    files: tuple[str, ...]

    @property
    def safetensors(self) -> bool:
        """Tell whether the weights are safetensors rather than a pickled state."""
        return any(name.startswith("model.safetensors") for name in self.files)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read everything about a model directory except its weights.

    Raises ModelError where a file is missing, unreadable or describes a model of another shape than BGE-M3's.
    """
    if not path.is_dir():
        raise ModelError(f"no model directory at {path}: {REMEDY}")
    for required in ("config.json", "tokenizer.json", SPARSE_HEAD, COLBERT_HEAD):
        if not (path / required).is_file():
            raise ModelError(f"{path / required} is missing: the model is incomplete; {REMEDY}")
    config = _read_json(path / "config.json")
    try:
        return Checkpoint(
            path=path,
            name=_read_optional(path / NAME_FILE).get("name") or path.resolve().name,
            dim=config["hidden_size"],
            vocabulary=config["vocab_size"],
            max_tokens=_max_tokens(path, config),
            pad_id=config.get("pad_token_id") or 0,
            pooling=_pooling(path),
            prompts=_read_optional(path / PROMPTS_FILE).get("prompts") or {},
            special_tokens=_special_tokens(path),
            files=_files(path),
        )
    except KeyError as missing:
        raise ModelError(f"{path / 'config.json'} has no {missing}; {REMEDY}") from missing


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable as JSON ({error}); {REMEDY}") from error
    return content


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.exists() else {}


def _max_tokens(path: Path, config: Mapping[str, Any]) -> int:
    positions = int(config["max_position_embeddings"])
    match config.get("model_type"):
        case "xlm-roberta" | "roberta":
            # RoBERTa counts positions from the padding id on.
            return positions - int(config["pad_token_id"]) - 1
        case "bert":
            return positions
        case other:
            raise ModelError(f"{path / 'config.json'}: model_type {other!r} is not xlm-roberta, roberta or bert")


def _pooling(path: Path) -> Pooling:
    config = _read_optional(path / POOLING_FILE)
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    modes = [_POOLING_FLAGS.get(flag, flag) for flag in flags] or [config.get("pooling_mode", "cls")]
    match modes:
        case ["cls"]:
            return "cls"
        case ["mean"]:
            return "mean"
    raise ModelError(f"{path / POOLING_FILE}: pooling {modes} is not supported, only cls or mean")


def _special_tokens(path: Path) -> frozenset[str]:
    # The four that FlagEmbedding leaves out of the sparse vector; a literal <mask> in a text counts there.
    config = _read_optional(path / "tokenizer_config.json")
    defaults = {"cls_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    stated = {role: config.get(role) or token for role, token in defaults.items()}
    return frozenset(token["content"] if isinstance(token, dict) else token for token in stated.values())


def _files(path: Path) -> tuple[str, ...]:
    weights = next((name for name in WEIGHTS if (path / name).is_file()), None)
    if weights is None:
        raise ModelError(f"{path} holds no weights ({', '.join(WEIGHTS)}); {REMEDY}")
    files = {"config.json", "tokenizer.json", SPARSE_HEAD, COLBERT_HEAD, weights}
    if weights.endswith(".index.json"):
        files.update(_read_json(path / weights)["weight_map"].values())
    files.update(name for name in (POOLING_FILE, PROMPTS_FILE, "tokenizer_config.json") if (path / name).is_file())
    for name in files:
        if not (path / name).is_file():
            raise ModelError(f"{path / name} is missing, though {weights} names it; {REMEDY}")
    return tuple(sorted(files))
