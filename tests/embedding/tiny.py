"""A random checkpoint of BGE-M3's shape, a few megabytes, made without a network."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
CORPUS = [
    "Migration of an Oracle database to PostgreSQL for a retail bank in Spain, 250k EUR.",
    "Modernisation du data warehouse, clôture au troisième trimestre.",
    "Kunde plant SAP auf AWS und benötigt Unterstützung bei der Sicherheit.",
    "Oportunidad de analítica en tiempo real para una empresa de logística.",
    "生成AIチャットボットの概念実証と社内ナレッジ検索。",
]


def make_tiny_model(directory: Path, *, hidden: int = 64, seed: int = 0) -> Path:
    """Write the checkpoint; the trained vocabulary varies from call to call, the weights follow the seed."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.UnigramTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        unk_token="<unk>",
        show_progress=False,
        initial_alphabet=alphabet,
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=8192,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(directory)
    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=8194,
        type_vocab_size=1,
    )
    XLMRobertaModel(config).save_pretrained(directory)
    torch.save(torch.nn.Linear(hidden, 1).state_dict(), directory / "sparse_linear.pt")
    torch.save(torch.nn.Linear(hidden, hidden).state_dict(), directory / "colbert_linear.pt")
    return directory
