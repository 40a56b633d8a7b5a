from __future__ import annotations

import numpy as np
import pytest

from embedding.errors import UsageError
from embedding.tokenizer import Tokenizer, Tokens, load_backend


def test_rows_are_the_tokenizers_own(encoder, texts):
    tokens = encoder.tokenizer.tokenize(texts, prompt="passage")
    wanted = [encoding.ids for encoding in load_backend(encoder.checkpoint).encode_batch_fast(texts)]
    assert tokens.counts.tolist() == [len(ids) for ids in wanted]
    # Cut to 64, the last special token kept.
    assert [row.tolist() for row in tokens.rows()] == [
        ids if len(ids) <= 64 else [*ids[:63], ids[-1]] for ids in wanted
    ]
    assert tokens.lengths.tolist() == [min(64, len(ids)) for ids in wanted]
    assert tokens.truncated.any()


def test_rows_are_put_together_again(encoder, texts):
    tokens = encoder.tokenizer.tokenize(texts, prompt="passage")
    again = Tokens.of(tokens.rows()[::-1], counts=tokens.counts.tolist()[::-1], prompt_tokens=0)
    assert np.array_equal(again.truncated, tokens.truncated[::-1])
    assert [row.tolist() for row in again.rows()] == [row.tolist() for row in tokens.rows()[::-1]]
    nothing = Tokens.of([], counts=[], prompt_tokens=0)
    assert (nothing.rows(), len(nothing.ids), nothing.offsets.tolist()) == ([], 0, [0])


def test_a_length_without_room_for_text_is_refused(encoder):
    assert Tokenizer(encoder.checkpoint, max_length=3).tokenize(["database"], prompt="passage").lengths.tolist() == [3]
    with pytest.raises(UsageError, match="use 3 or more"):
        Tokenizer(encoder.checkpoint, max_length=2).tokenize(["database"], prompt="passage")
