"""Weights of BGE-M3's shape, random: what they cost to compute does not depend on their values."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

NAME = "random weights of BGE-M3's shape (24 layers, 568 million)"


def make_full_size(tokenizer: Path, directory: Path) -> Path:
    """Write the checkpoint with the tokenizer files of another directory: 1.1 GB in bfloat16."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    directory.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, directory)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1_024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4_096,
        max_position_embeddings=8_194,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    XLMRobertaModel(config, add_pooling_layer=False).to(torch.bfloat16).save_pretrained(directory)
    for name, columns in (("sparse_linear.pt", 1), ("colbert_linear.pt", 1_024)):
        torch.save(torch.nn.Linear(1_024, columns).state_dict(), directory / name)
    return directory
