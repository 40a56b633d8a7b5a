"""Build a small real model of BGE-M3's shape for machines that cannot fetch BGE-M3: multilingual-e5-small."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from embedding.checkpoint import COLBERT_HEAD, NAME_FILE, POOLING_FILE, PROMPTS_FILE, SPARSE_HEAD
from embedding.demo_sparse import fit_sparse_head
from embedding.demo_tokenizer import build_tokenizer, save_tokenizer
from embedding.errors import OutputError
from embedding.nano import PACKAGE, SHA256, NanoModel, read_nano

NAME = "multilingual-e5-small (4-bit, demo)"
PROMPTS = {"query": "query: ", "passage": "passage: "}
# Raised when a build gives other files than before.
VERSION = 1
ABOUT = {"name": NAME, "source": PACKAGE, "source_sha256": SHA256, "license": "MIT", "version": VERSION}

_LAYER_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
_LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}


def build(output: Path) -> bool:
    """Build the model directory unless it is there already, and tell whether it was built.

    It appears whole or not at all. Raises OutputError for a directory that holds something else, another model
    included, ModelError where the package is missing.
    """
    if _read_about(output) == ABOUT:
        return False
    _refuse_other_content(output)
    nano = read_nano()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as aside:
        built = Path(aside) / "model"
        built.mkdir()
        _write(nano, built)
        _make_readable(built)
        if output.exists():
            shutil.rmtree(output)
        built.rename(output)
    return True


def _refuse_other_content(output: Path) -> None:
    # A demo model of another version of the package is one as well, and is replaced.
    package = PACKAGE.partition("==")[0]
    source = str(_read_about(output).get("source"))
    if output.is_dir() and (not any(output.iterdir()) or source.partition("==")[0] == package):
        return
    if output.exists():
        raise OutputError(f"{output} holds something else than the demo model: remove it, or use another --output")


def _read_about(directory: Path) -> dict[str, Any]:
    try:
        about = json.loads((directory / NAME_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _write(nano: NanoModel, directory: Path) -> None:
    config = _config(nano)
    state = {name: torch.from_numpy(array).half() for name, array in _state(nano).items()}
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    _write_json(directory / "config.json", config)
    tokenizer = build_tokenizer(nano.pieces)
    save_tokenizer(tokenizer, directory, max_tokens=nano.positions)
    transformer = BertModel(BertConfig(**config), add_pooling_layer=False).double().eval()
    transformer.load_state_dict(state)
    sparse = fit_sparse_head(transformer, tokenizer, pieces=nano.pieces, prefix=PROMPTS["passage"])
    torch.save(sparse, directory / SPARSE_HEAD)
    torch.save({"weight": torch.eye(nano.hidden), "bias": torch.zeros(nano.hidden)}, directory / COLBERT_HEAD)
    (directory / POOLING_FILE).parent.mkdir()
    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    _write_json(directory / POOLING_FILE, {"word_embedding_dimension": nano.hidden, **pooling})
    _write_json(directory / PROMPTS_FILE, {"prompts": PROMPTS, "default_prompt_name": None})
    _write_json(directory / NAME_FILE, ABOUT)


def _config(nano: NanoModel) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "dtype": "float16",
        "hidden_act": "gelu",
        "hidden_size": nano.hidden,
        "intermediate_size": nano.intermediate,
        "layer_norm_eps": nano.epsilon,
        "max_position_embeddings": nano.positions,
        "num_attention_heads": nano.heads,
        "num_hidden_layers": nano.layers,
        "pad_token_id": 1,
        "type_vocab_size": nano.token_types,
        "vocab_size": len(nano.pieces),
    }


def _state(nano: NanoModel) -> dict[str, np.ndarray]:
    width = nano.hidden
    # The table has spare rows behind the last piece; without them, sparse vectors are as wide as BGE-M3's.
    state = {
        "embeddings.word_embeddings.weight": nano.tensors["emb.word"].reshape(-1, width)[: len(nano.pieces)],
        "embeddings.position_embeddings.weight": nano.tensors["emb.pos"].reshape(-1, width),
        "embeddings.token_type_embeddings.weight": nano.tensors["emb.type"].reshape(-1, width),
        "embeddings.LayerNorm.weight": nano.tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": nano.tensors["emb.ln.b"],
    }
    for layer in range(nano.layers):
        for short, long in (_LINEAR | _LAYER_NORM).items():
            bias = nano.tensors[f"l{layer}.{short}.b"]
            weight = nano.tensors[f"l{layer}.{short}.w"]
            name = f"encoder.layer.{layer}.{long}"
            state[f"{name}.weight"] = weight.reshape(len(bias), -1) if short in _LINEAR else weight
            state[f"{name}.bias"] = bias
    return {name: np.array(array, np.float32) for name, array in state.items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _make_readable(directory: Path) -> None:
    # safetensors writes for the owner alone; the container reads the model as another user.
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
