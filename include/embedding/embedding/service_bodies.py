"""What the service is sent, and how it says no: one shape of error on every route, OpenAI's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

Body = TypeVar("Body", bound=BaseModel)
Prompt = Literal["query", "passage"]

# Bodies that are held at a time, in units of the largest one.
BODIES = 8
BODY_SECONDS = 30.0


class ApiError(Exception):
    """A request that is refused; the message says why and what to do, and never holds a text."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def response(self) -> Response:
        """Return the error as OpenAI words it."""
        kind = "server_error" if self.status >= 500 else "rate_limit_error" if self.status == 429 else _INVALID
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        headers = {"retry-after": str(self.retry_after)} if self.retry_after else None
        return json_response({"error": error}, status=self.status, headers=headers)


_INVALID = "invalid_request_error"


class EmbedBody(BaseModel):
    """POST /embed."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    inputs: list[str]
    prompt: Prompt = "passage"
    truncate: bool = False


class RerankBody(BaseModel):
    """POST /rerank."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    query: str
    texts: list[str]
    truncate: bool = False


class OpenAIBody(BaseModel):
    """POST /v1/embeddings; `prompt` is ours, what else OpenAI knows is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    input: list[str]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    prompt: Prompt = "passage"

    @field_validator("input", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError("must be a text or a list of texts, at least one; token ids are not taken")
        return texts


class BodyReader:
    """Read bodies of bounded size, and so many bytes of them at a time."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._held = 0

    @contextmanager
    def hold(self) -> Iterator[list[bytes]]:
        """Yield the list that `read` fills; its bytes count until the block ends."""
        chunks: list[bytes] = []
        try:
            yield chunks
        finally:
            self._held -= sum(map(len, chunks))

    async def read(self, request: Request, chunks: list[bytes]) -> bytes:
        """Return the whole body; raises ApiError 408, 413 or 429."""
        if _stated_length(request) > self._largest:
            raise self._too_large()
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._largest:
                        raise self._too_large()
                    if self._held + len(chunk) > BODIES * self._largest:
                        raise ApiError(429, "overloaded", "too many large requests at a time", retry_after=1)
                    self._held += len(chunk)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise ApiError(408, "body_timeout", f"the body did not come within {BODY_SECONDS:.0f} s") from error
        except ClientDisconnect as error:
            raise ApiError(499, "client_left", "the client left before its body was complete") from error
        return b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError(413, "body_too_large", f"the body is larger than {self._largest} bytes: send fewer texts")


def parse(kind: type[Body], body: bytes) -> Body:
    """Return the validated body; raises ApiError 400 for what is no JSON, 422 for what has other fields."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:3])
        if faults[0]["type"] == "json_invalid":
            raise ApiError(400, "not_json", said) from None
        raise ApiError(422, "wrong_fields", said, param=str(next(iter(faults[0]["loc"]), "")) or None) from None


def json_response(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON; numpy arrays are written as lists, float32 in as few digits as give the same float32."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def _stated_length(request: Request) -> int:
    stated = request.headers.get("content-length", "")
    return int(stated) if stated.isdecimal() else 0
