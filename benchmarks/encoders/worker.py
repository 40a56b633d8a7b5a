"""Measure the encoders one after the other in one process, and print each figure as a JSON event."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from benchmarks.encoders import LENGTHS, MAX_LENGTH, Figures, Job
from benchmarks.encoders.contenders import (
    BATCH_SIZES,
    Contender,
    flag_embedding,
    load_flag_embedding,
    load_revops,
    load_sentence_transformers,
    quiet,
    revops,
    sentence_transformers,
    timed,
)
from benchmarks.encoders.full_size import NAME, make_full_size
from benchmarks.encoders.host import measure_flag_embedding, measure_revops
from benchmarks.encoders.peak import flops_a_token, matrix_peak
from benchmarks.encoders.texts import make_queries, make_texts
from embedding.checkpoint import read_checkpoint
from embedding.device import choose_device, choose_dtype, name_device, use_threads
from embedding.encoder import Encoder
from embedding.weights import load_weights

FLAG_DEFAULT = 256
SENTENCE_DEFAULT = 32
# Documents that batch sizes are tried on, and that vectors are compared on.
TUNED_ON = {"cpu": 32, "cuda": 1_024}
COMPARED = 16


class Worker:
    """One process's measurements."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.home = Path(job.home)
        self.device = choose_device(job.device, require_gpu=False)
        self.dtype = choose_dtype("auto", device=self.device)
        self.tokenizer = Path(job.model) / "tokenizer.json"
        model = Path(job.model)
        if job.full_size:
            model = make_full_size(model, self.home / "full-size")
        self.checkpoint = read_checkpoint(model)
        self.prompts = self.checkpoint.prompts

    def run(self) -> None:
        """Measure the sections asked for."""
        emit(
            "machine",
            device=self.device,
            name=name_device(self.device),
            dtype=self.dtype,
            model=NAME if self.job.full_size else self.checkpoint.name,
            torch=torch.__version__,
            peaks={name: matrix_peak(self.device, getattr(torch, name)) for name in sorted({"float32", self.dtype})},
        )
        if "host" in self.job.sections:
            self.host()
        if not {"batch", "query", "full"} & set(self.job.sections):
            return
        self.flag = load_flag_embedding(self.checkpoint, device=self.device)
        # FlagEmbedding knows float32 only on a CPU: there ours is measured in both.
        dtypes = dict.fromkeys((self.dtype, *(("float32",) if self.device == "cpu" else ())))
        self.weights = {dtype: load_weights(self.checkpoint, device=self.device, dtype=dtype) for dtype in dtypes}
        self.sentence = {
            dtype: load_sentence_transformers(self.checkpoint, device=self.device, dtype=dtype) for dtype in dtypes
        }
        if "batch" in self.job.sections:
            self.batch()
        if "query" in self.job.sections:
            self.query()
        if "full" in self.job.sections:
            for length in LENGTHS:
                self.full(length)

    def host(self) -> None:
        """Measure what a document costs the processor beside the model."""
        texts = make_texts(self.tokenizer, self.job.host_documents)
        flag = load_flag_embedding(self.checkpoint, device="cpu")
        # Nothing is left to compute, and threads that wait for work would be counted as work.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for _ in range(self.job.rounds):
            ours = measure_revops(self.checkpoint, texts, home=self.home)
            self._say("host", "Revops", texts, ours, tokens=ours.tokens)
            theirs = measure_flag_embedding(flag, texts, batch_size=FLAG_DEFAULT, prompts=self.prompts)
            self._say("host", "FlagEmbedding", texts, theirs, tokens=ours.tokens)
        torch.set_num_threads(threads)

    def batch(self) -> None:
        """Measure whole batches of documents of mixed length, and compare what comes out."""
        texts = make_texts(self.tokenizer, self.job.documents, seed=2)
        self._measure("batch", self._contenders(MAX_LENGTH, texts[: TUNED_ON[self.device]]), texts)
        few = texts[:COMPARED]
        prompt = self.prompts.get("passage", "")
        with quiet():
            theirs = self.flag.encode([prompt + text for text in few], batch_size=16, max_length=MAX_LENGTH)
        for dtype in self.weights:
            ours = self._encoder(dtype, MAX_LENGTH).encode(few).dense
            emit(
                "agreement",
                dtype=dtype,
                difference=float(np.abs(ours - theirs["dense_vecs"]).max()),
                cosine=float((ours * theirs["dense_vecs"]).sum(1).min()),
            )

    def query(self) -> None:
        """Measure one query at a time, the contenders in turns."""
        queries = make_queries(self.tokenizer, self.job.queries)
        contenders = self._contenders(MAX_LENGTH, ())
        contenders = [c for c in contenders if "default" not in c.name]
        for contender in contenders:
            contender.query(queries[0])
        spent: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in contenders}
        for text in queries:
            for contender in contenders:
                one = timed(lambda contender=contender, text=text: contender.query(text))  # type: ignore[misc]
                spent[contender.name].append((one.wall, one.cpu))
        for name, seconds in spent.items():
            emit(
                "figures",
                section="query",
                contender=name,
                documents=1,
                tokens=0,
                wall=median(wall for wall, _ in seconds),
                cpu=median(cpu for _, cpu in seconds),
                padded=0,
            )

    def full(self, length: int) -> None:
        """Measure documents that all have this many tokens."""
        count = max(1, self.job.full_documents * LENGTHS[0] // length)
        texts = make_texts(self.tokenizer, count, seed=length, mean_words=6 * length)
        contenders = self._contenders(length, ())
        self._measure(f"{length} tokens", contenders, texts)

    def _contenders(self, length: int, tuning: Sequence[str]) -> list[Contender]:
        flag_size = FLAG_DEFAULT
        sentence_size = SENTENCE_DEFAULT if self.device == "cpu" else FLAG_DEFAULT
        made = []
        for dtype in self.weights:
            made.append(revops(self._encoder(dtype, length), home=self.home))
        if tuning:
            made.append(self._flag(flag_size, f", batches of {flag_size} (its default)", length))
            flag_size = min(BATCH_SIZES[self.device], key=lambda size: self._flag(size, "", length).batch(tuning).cpu)
        made.append(self._flag(flag_size, f", batches of {flag_size}" if tuning else "", length))
        if tuning:
            model = next(iter(self.sentence.values()))
            sentence_size = min(
                BATCH_SIZES[self.device], key=lambda size: self._sentence(model, size, "", length).batch(tuning).cpu
            )
        for dtype, model in self.sentence.items():
            name = f", {dtype}, dense only, batches of {sentence_size}"
            made.append(self._sentence(model, sentence_size, name, length))
        return made

    def _encoder(self, dtype: str, length: int) -> Encoder:
        weights = self.weights[dtype]
        return load_revops(self.checkpoint, weights, device=self.device, dtype=dtype, max_length=length)

    def _flag(self, size: int, name: str, length: int) -> Contender:
        return flag_embedding(self.flag, name=name, batch_size=size, prompts=self.prompts, max_length=length)

    def _sentence(self, model: Any, size: int, name: str, length: int) -> Contender:
        return sentence_transformers(model, name=name, batch_size=size, prompts=self.prompts, max_length=length)

    def _measure(self, section: str, contenders: list[Contender], texts: Sequence[str]) -> None:
        tokens = 0
        for contender in contenders:
            # Kernels are chosen and buffers made at the first call.
            contender.batch(texts[: 4 if self.device == "cpu" else len(texts)])
        for _ in range(self.job.rounds):
            for contender in contenders:
                spent = contender.batch(texts)
                tokens = spent.tokens or tokens
                self._say(section, contender.name, texts, spent, tokens=tokens)
        dtype = next(iter(self.weights))
        emit("flops", section=section, dtype=dtype, a_token=flops_a_token(self.checkpoint.path, tokens / len(texts)))

    def _say(self, section: str, contender: str, texts: Sequence[str], spent: Any, *, tokens: int) -> None:
        figures = Figures(section, contender, len(texts), tokens, spent.wall, spent.cpu, spent.padded)
        emit("figures", **vars(figures))


_EVENTS = os.fdopen(os.dup(1), "w")


def emit(event: str, **values: Any) -> None:
    """Print one event."""
    _EVENTS.write(json.dumps({"event": event, "at": time.time(), **values}) + "\n")
    _EVENTS.flush()


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Nothing else may stand between the events.
    os.dup2(2, 1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    given = Job.given()
    use_threads(given.threads)
    Worker(given).run()
    sys.exit(0)
