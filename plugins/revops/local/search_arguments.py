"""The options of a search from the shell."""

from __future__ import annotations

import argparse
from datetime import date
from decimal import Decimal, InvalidOperation

from revops.local.searching import Asked
from revops.search import Filters


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the query, or --like a document, and what its hits must be; options of lists may be given several times."""
    parser.add_argument("query", nargs="?", help="what to look for")
    parser.add_argument("--like", type=_document, metavar="ENTITY:ID", help="instead of a query: a document")
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--rerank", action="store_true", help="compare the first 50 hits word by word with the query")
    for name, what in (
        ("entity", "odoo_opportunity, ace_opportunity or account"),
        ("source", "odoo or ace"),
        ("stage", "as in core"),
        ("team", "the team that owns the deal"),
        ("country", "two letters"),
    ):
        parser.add_argument(f"--{name}", action="append", help=what)
    for name in ("from", "to"):
        parser.add_argument(f"--{name}", type=date.fromisoformat, dest=f"date_{name}", metavar="YYYY-MM-DD")
    for name in ("min", "max"):
        parser.add_argument(f"--{name}", type=_amount, dest=f"amount_{name}", metavar="AMOUNT")


def read_asked(arguments: argparse.Namespace) -> Asked:
    """Return what the options ask for."""
    filters = Filters(
        entities=arguments.entity,
        sources=arguments.source,
        stages=arguments.stage,
        teams=arguments.team,
        countries=arguments.country and [country.upper() for country in arguments.country],
        date_from=arguments.date_from,
        date_to=arguments.date_to,
        amount_from=arguments.amount_min,
        amount_to=arguments.amount_max,
    )
    return Asked(arguments.limit, filters, arguments.rerank)


def _document(text: str) -> tuple[str, str]:
    entity, colon, entity_id = text.partition(":")
    if not (entity and colon and entity_id):
        raise argparse.ArgumentTypeError(f"{text!r} is not ENTITY:ID, e.g. odoo_opportunity:42")
    return entity, entity_id


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount") from error
