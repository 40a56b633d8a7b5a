"""A sparse head for a model that has none: hidden states to their tokens' rarity, by ridge regression."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

SENTENCES = (
    "Migration of an on-premises Oracle database to Amazon RDS for PostgreSQL, for a retail bank in Madrid.",
    "The customer wants to move 120 virtual machines out of two data centres before the lease ends in March.",
    "Follow-up call with the finance director about the proposal, the discount and the payment terms.",
    "Proof of concept: contact centre on Amazon Connect with 400 agents and a link to the CRM.",
    "Modernise a legacy Java monolith on EKS and lower its cost with Graviton and Spot instances.",
    "Invoice overdue since 30 days; the account manager will remind the buyer by e-mail next week.",
    "Modernisation de l'entrepôt de données vers Redshift, budget 250 000 EUR, clôture en septembre.",
    "Le client souhaite une sauvegarde chiffrée de ses serveurs et un plan de reprise après sinistre.",
    "Der Kunde plant SAP S/4HANA in der Cloud und braucht Unterstützung bei Sicherheit und Netzwerk.",
    "Angebot für die Wartung der Rechenzentren, Laufzeit drei Jahre, Entscheidung im Vorstand im Mai.",
    "Oportunidad de analítica en tiempo real para una empresa de logística en México y Colombia.",
    "Renovación del contrato de soporte, con formación para los equipos de ventas y de operaciones.",
    "Projeto de inteligência artificial para prever a procura nas lojas de uma rede de supermercados.",
    "Migrazione del sito di commercio elettronico, con test di carico e una nuova rete di distribuzione.",
    "De klant wil zijn werkplekken beheren vanuit de cloud en zoekt een partner voor de uitrol.",
    "Klient potrzebuje hurtowni danych, raportów sprzedaży i szkolenia dla analityków.",
    "Müşteri, mobil uygulaması için ölçeklenebilir bir altyapı ve güvenlik denetimi istiyor.",
    "Клиент переносит хранилище документов в облако и просит оценить стоимость и сроки.",
    "生成AIチャットボットの概念実証。社内の文書を検索し、回答の根拠を示す。",
    "客户计划把核心交易系统迁移到云端，要求高可用和灾难恢复。",
    "고객은 물류 데이터를 실시간으로 분석하는 플랫폼을 구축하려고 합니다.",
    "يريد العميل نقل قواعد البيانات إلى السحابة وتقليل تكاليف التشغيل.",
)
MIXES = 170
WORDS_IN_A_MIX = 24
RIDGE = 1.0
# Pieces likelier than e^-6 (articles, commas) weigh nothing; the rarest weigh 0.4, as BGE-M3's rare words do.
COMMON, SPAN, HIGHEST = 6.0, 25.0, 0.4


def fit_sparse_head(
    transformer: nn.Module, tokenizer: Tokenizer, *, pieces: list[tuple[str, float]], prefix: str
) -> dict[str, torch.Tensor]:
    """Return the state of a linear layer (1, dim).

    The caller gives the transformer in float64: differences between processors then vanish when the result is
    rounded, and every machine builds the same file.
    """
    target = np.clip((-np.array([score for _, score in pieces]) - COMMON) / SPAN, 0.0, HIGHEST)
    states, ids = _hidden_states(transformer, tokenizer, [prefix + text for text in _texts(pieces)])
    inputs = np.column_stack([states, np.ones(len(states))])
    weights = np.linalg.solve(inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1]), inputs.T @ target[ids])
    rounded = torch.from_numpy(weights.round(4)).float()
    return {"weight": rounded[None, :-1].clone(), "bias": rounded[-1:].clone()}


def _texts(pieces: list[tuple[str, float]]) -> list[str]:
    random = np.random.default_rng(0)
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    rare = [piece[1:] for piece, _ in pieces[:120_000] if piece.startswith("▁") and len(piece) > 3]
    mixes = [
        " ".join([*random.choice(words, WORDS_IN_A_MIX // 2), *random.choice(rare, WORDS_IN_A_MIX // 2)])
        for _ in range(MIXES)
    ]
    return [*SENTENCES, *mixes]


def _hidden_states(
    transformer: nn.Module, tokenizer: Tokenizer, texts: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    states, ids = [], []
    encodings = sorted((encoding.ids for encoding in tokenizer.encode_batch(texts)), key=len)
    with torch.inference_mode():
        for start in range(0, len(encodings), 16):
            rows = encodings[start : start + 16]
            batch = torch.ones(len(rows), max(map(len, rows)), dtype=torch.long)
            for row, of_text in zip(batch, rows, strict=True):
                row[: len(of_text)] = torch.tensor(of_text)
            hidden = transformer(input_ids=batch, attention_mask=(batch != 1).long()).last_hidden_state
            words = batch > 3
            states.append(hidden[words].numpy())
            ids.append(batch[words].numpy())
    return np.concatenate(states), np.concatenate(ids)
