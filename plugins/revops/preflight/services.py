"""Checks of mail server, encoder and search service."""

from __future__ import annotations

import smtplib
import ssl
from functools import cached_property

from revops.connection_stores import check_connection
from revops.embedding.encoder import EncoderInterruptedError, Model, choose_runner, describe_model
from revops.embedding.service import ServiceError, find_service
from revops.preflight.outcome import CheckError, Passed
from revops.settings import EMBEDDING_URL, Settings

SMTP_CONNECTION = "smtp_default"
_MAIL_REMEDY = (
    f"Remedy: look at the connection {SMTP_CONNECTION}: host, port, user, password; port 587 needs disable_ssl=true, "
    "port 465 disable_tls=true, a server without TLS both."
)


def check_mail_server() -> Passed:
    """Check that the mail server takes our login; nothing is sent. Raises CheckError and ConnectionFileError."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook
    from airflow.sdk.exceptions import AirflowException

    check_connection(SMTP_CONNECTION)
    hook = SmtpHook(smtp_conn_id=SMTP_CONNECTION)
    try:
        with hook:
            told = "encrypted" if hook.use_ssl or hook.smtp_starttls else "not encrypted"
            return Passed(f"{hook.host}:{hook.port} takes our mail, {told}")
    except AirflowException as error:
        raise CheckError(f"{error} {_MAIL_REMEDY}", may_pass="connect" in str(error)) from error
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError, ssl.SSLError) as error:
        raise CheckError(f"{_place(hook)}: {_words(error)}. {_MAIL_REMEDY}") from error
    except (smtplib.SMTPException, OSError) as error:
        raise CheckError(f"{_place(hook)}: {_words(error)}. {_MAIL_REMEDY}", may_pass=True) from error


class Encoding:
    """The encoder's checks, which ask the model once."""

    @cached_property
    def _settings(self) -> Settings:
        return Settings.from_environment()

    @cached_property
    def _model(self) -> Model:
        try:
            return describe_model(self._settings)
        except EncoderInterruptedError as error:
            raise CheckError(str(error), may_pass=True) from error

    def check_encoder(self) -> Passed:
        """Check that the encoder runs and reads its model; raises CheckError, EncoderError and SettingsError."""
        self._check_engine()
        where = self._settings.embedding_image or str(self._settings.embedding_python)
        return Passed(f"{self._model.name}, {self._model.dimensions} dimensions, by {where}")

    def check_service(self) -> Passed:
        """Check that each search service answers with the model of the documents; raises CheckError."""
        urls = self._settings.embedding_urls
        if not urls:
            return Passed(f"none: {EMBEDDING_URL} is not set, so that nothing can be searched by meaning")
        for url in urls:
            try:
                find_service(self._settings.model_copy(update={"embedding_urls": (url,)}), self._model.key)
            except ServiceError as error:
                raise CheckError(str(error), may_pass=True) from error
        return Passed(f"{', '.join(urls)} with the encoder's model")

    def _check_engine(self) -> None:
        if self._settings.embedding_image is None:
            return
        from revops.embedding.container import ContainerRunner
        from revops.embedding.engine import check_parts, explained

        try:
            runner = choose_runner(self._settings)
            if isinstance(runner, ContainerRunner):
                with explained(self._settings):
                    check_parts(runner.client, self._settings, with_handoff=True)
        except EncoderInterruptedError as error:
            raise CheckError(str(error), may_pass=True) from error


def _place(hook: object) -> str:
    connection = getattr(hook, "smtp_connection", None)
    return f"{connection.host}:{connection.port}" if connection is not None else SMTP_CONNECTION


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
