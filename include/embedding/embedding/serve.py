"""The service's process: load, warm up, answer until told to stop or nobody asks any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from embedding.device import use_threads
from embedding.encoder import Encoder, Settings
from embedding.errors import DeviceLostError, UsageError
from embedding.service_app import Service
from embedding.service_bodies import BodyReader
from embedding.service_metrics import Metrics
from embedding.service_work import Work
from embedding.waiting import Limits

Emit = Callable[[dict[str, Any]], None]

# How long requests under way may take once the service is told to stop.
GRACE_SECONDS = 30
KEEP_ALIVE_SECONDS = 30
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """State how the service is run; queue_tokens None: 64 batches; idle_exit: seconds, None for never."""

    model: Path
    settings: Settings
    host: str = "127.0.0.1"
    port: int = 8300
    threads: int | None = None
    window: float = 0.002
    max_texts: int = 512
    queue_texts: int = 4_096
    queue_tokens: int | None = None
    cache_size: int = 4_096
    body_bytes: int = 8 * 1024 * 1024
    idle_exit: float | None = None


def serve(options: Options, emit: Emit) -> None:
    """Serve until SIGTERM, SIGINT or `idle_exit`; requests under way are finished first.

    Emits `ready` once warm and `end`. Raises EmbeddingError where the address is taken or the model does not load,
    DeviceLostError where the GPU fails for good, once the requests under way have been told.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(_Process(options, emit).run())


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would end the process by the signal itself: a stop that was asked for ends with 0.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


class _Process:
    def __init__(self, options: Options, emit: Emit) -> None:
        self._options = options
        self._emit = emit
        self._started = time.monotonic()
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="model", initializer=use_threads, initargs=(options.threads,)
        )
        self._service = Service(Metrics(), BodyReader(options.body_bytes), options.max_texts)
        config = uvicorn.Config(
            self._service.app(),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = _Server(config)

    async def run(self) -> None:
        with _listen(self._options.host, self._options.port) as listener:
            # Listening from the start: until the model is warm, /health says so.
            serving = asyncio.create_task(self._server.serve(sockets=[listener]))
            answering = asyncio.create_task(self._answer(port=listener.getsockname()[1]))
            idling = asyncio.create_task(self._until_idle())
            await asyncio.wait({serving, answering, idling}, return_when=asyncio.FIRST_COMPLETED)
            self._server.should_exit = True
            # Without the model's thread nothing that is under way would ever be finished; a lost GPU has finished it.
            self._server.force_exit |= answering.done() and not isinstance(answering.exception(), DeviceLostError)
            await serving
            idling.cancel()
            answering.cancel()
            self._thread.shutdown(wait=True)
            with contextlib.suppress(asyncio.CancelledError):
                await answering
        reason = "idle" if idling.done() and not idling.cancelled() else "signal"
        self._emit({"event": "end", "reason": reason, "requests": self._service.asked})

    async def _answer(self, *, port: int) -> None:
        about, work = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        service = self._service
        service.metrics.model.labels(*(about[name] for name in ("model_name", "model_key", "device", "dtype"))).set(1)
        service.about, service.work, service.last_asked = about, work, time.monotonic()
        host = self._options.host
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        seconds = round(time.monotonic() - self._started, 3)
        self._emit({"event": "ready", "url": url, "host": host, "port": port, **about, "seconds": seconds})
        await work.coalescer.run()

    async def _until_idle(self) -> None:
        limit, service = self._options.idle_exit, self._service
        while limit is None or not service.work or service.running or time.monotonic() - service.last_asked < limit:
            await asyncio.sleep(POLL_SECONDS)

    def _load(self) -> tuple[dict[str, Any], Work]:
        # On the model thread.
        options, settings = self._options, self._options.settings
        encoder = Encoder.load(options.model, settings)
        _warm_up(encoder)
        about = {
            "model_name": encoder.checkpoint.name,
            "model_key": encoder.model_key(),
            "dim": encoder.checkpoint.dim,
            "sparse_dim": encoder.checkpoint.vocabulary,
            "max_length": settings.max_length,
            "device": settings.device,
            "dtype": settings.dtype,
        }
        limits = Limits(
            token_budget=settings.token_budget,
            queue_texts=options.queue_texts,
            queue_tokens=options.queue_tokens or 64 * settings.token_budget,
            window=options.window,
        )
        metrics = self._service.metrics
        return about, Work(encoder, limits, cache_size=options.cache_size, thread=self._thread, metrics=metrics)


def _warm_up(encoder: Encoder) -> None:
    for prompt in ("query", "passage"):
        encoder.encode(["warm-up"], prompt=prompt)
        encoder.encode_colbert(["warm-up"], prompt=prompt)
    if encoder.settings.device != "cpu":
        # A whole batch, so that the GPU's memory is asked for now.
        words = encoder.settings.max_length // 2
        encoder.encode([" ".join(["word"] * words)] * max(1, encoder.settings.token_budget // words))


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as opened:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            # With its protocol named: asyncio then sends answers at once, rather than 40 ms later with the next packet.
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host} port {port} ({error}): choose another --host or --port"
            ) from error
        yield listener
