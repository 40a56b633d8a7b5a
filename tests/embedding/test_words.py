"""Word by word gives the ids that the tokenizer gives for the whole text, whatever its characters and normalizer."""

from __future__ import annotations

import io
import random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tiny import CORPUS
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

import embedding.words
from embedding.words import Words

TEXTS = 3_000
CHARACTERS = [
    "abcdefg hijk .,-<>",
    "éèüñçÀ ",
    "\t\n\r\x00\x01\x1c\x85\u00a0\u2028\u200b\u200d\ufeff\u3000",
    "\u0300\u0301\u0308\u0f71\u093e\u0e33\uff9e\U0001f3fb\u200c\u0903",
    "\u0600\u06dd\u070f\U000110bd\u0d4e\U000111c2",
    "日本語テキスト가각ㄱㅏ",
    "¨´ﷺ①㎏½ﬁ＜mask＞▁",
    "👍🏽👨‍👩‍👧🇪🇸",
    "กำ ไทย हिन्दी العربية",
]
WORDS = ["<mask>", "<s>", "</s>", "\r\n", " ", "  ", "\n", "▁", "database", "Überprüfung", "migración", "42"]
METASPACE = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
COLLAPSE = Regex(" {2,}")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    chance = random.Random(0)

    def part() -> str:
        kind = chance.random()
        if kind < 0.3:
            return " "
        if kind < 0.5:
            return chance.choice(WORDS)
        if kind < 0.55:
            return chr(chance.choice([*range(0x20, 0x3000), *range(0xE000, 0xE100), *range(0x1F000, 0x1F800)]))
        return chance.choice(chance.choice(CHARACTERS))

    return ["".join(part() for _ in range(chance.randrange(1, 20))) for _ in range(TEXTS)]


@pytest.fixture(scope="module")
def precompiled() -> normalizers.Normalizer:
    # The normalizer of sentencepiece, as XLM-R and BGE-M3 carry it.
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        minloglevel=2,
        normalization_rule_name="nmt_nfkc",
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)


def tokenizer(normalizer, pre_tokenizer) -> Tokenizer:
    letters = sorted({*"".join(CORPUS), *"".join(CHARACTERS), *"0123456789abcdefghijklmnopqrstuvwxyzÜü▁"} - {" "})
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(letter, -9.0) for letter in letters] + [("▁data", -5.0), ("base", -6.0), ("▁mi", -6.0), ("42", -7.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.normalizer, made.pre_tokenizer = normalizer, pre_tokenizer
    made.add_special_tokens(["<s>", "</s>", "<unk>", "<mask>"])
    return made


@pytest.mark.parametrize("splits_space", [True, False])
@pytest.mark.parametrize("kind", ["nfkc", "precompiled", "precompiled, collapsed", "precompiled, stripped"])
def test_equals_the_tokenizer(texts, precompiled, kind, splits_space):
    normalizer = {
        "nfkc": [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(COLLAPSE, " ")],
        "precompiled": [precompiled],
        "precompiled, collapsed": [precompiled, normalizers.Replace(COLLAPSE, " ")],
        "precompiled, stripped": [
            precompiled,
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(COLLAPSE, "▁"),
        ],
    }[kind]
    splits = [pre_tokenizers.WhitespaceSplit(), METASPACE] if splits_space else [METASPACE]
    backend = tokenizer(normalizers.Sequence(normalizer), pre_tokenizers.Sequence(splits))
    words = Words(backend)
    found = 0
    for text, encoding in zip(texts, backend.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        ids = words.ids(text)
        if ids is not None:
            found += 1
            assert list(memoryview(ids).cast("i")) == encoding.ids, ascii(text)
    # Else the comparison would say nothing.
    assert found > TEXTS // 50


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer"),
    [
        (normalizers.NFD(), METASPACE),
        (normalizers.Replace("a b", "c"), METASPACE),
        (normalizers.NFKC(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")),
        (normalizers.NFKC(), pre_tokenizers.Whitespace()),
        (normalizers.NFKC(), None),
    ],
)
def test_other_tokenizers_see_every_text_whole(normalizer, pre_tokenizer):
    assert Words(tokenizer(normalizer, pre_tokenizer)).ids("a database") is None


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(embedding.words, "KEPT_WORDS", 10)
    words = Words(tokenizer(normalizers.NFKC(), METASPACE))
    ids = [words.ids(f"word {number}") for number in range(50)]
    assert len(words) <= 10
    assert words.ids("word 7") == ids[7]
    words.ids("long" * 20 + " word")
    assert max(map(len, words)) <= embedding.words.KEPT_LENGTH
