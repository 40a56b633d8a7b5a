"""What is claimed of the extraction, put against what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.report import Claim, Summary

Summaries = Mapping[tuple[str, str], Summary]

FIRST_A = "first load of billing"
FIRST_B = "first load of lead"
SLICE = "first load of a slice of billing"
INCREMENT = "increment of 1 %"
NOTHING = "nothing changed"
MEMORY = "memory"
ENCRYPTION = "encryption"

LARGEST_RSS = 150
LARGEST_GROWTH = 1.1


def extract_claims(summaries: Summaries) -> list[Claim]:
    """Return every claim; a section that was not run leaves its claims unmeasured."""
    return [
        *(_of_reference(summaries, section, "revops", 0.9) for section in (FIRST_A, FIRST_B)),
        *(_of_reference(summaries, section, "revops ranged", 0.7) for section in (FIRST_A, FIRST_B)),
        _times(summaries, FIRST_A, "dlt", 3),
        _times(summaries, FIRST_A, "sling", 3),
        _times(summaries, FIRST_A, "ingestr", 1.8),
        _times(summaries, FIRST_B, "ingestr", 1.2),
        _times(summaries, SLICE, "pandas to_sql", 10),
        _times(summaries, SLICE, "GenericTransfer", 10),
        _near_the_copy(summaries),
        _no_slower_than_ingestr(summaries),
        _one_scan_more(summaries),
        _nothing_changed(summaries),
        _small(summaries),
        _constant(summaries),
        _encrypted(summaries),
    ]


def _of_reference(summaries: Summaries, section: str, contender: str, least: float) -> Claim:
    text = f"{section}: {contender} at least {least} of psql COPY's speed, without the check"
    own = summaries.get((section, contender))
    if own is None:
        return Claim(text, "", None)
    return Claim(text, f"{own.net_speed:.2f} ({own.speed:.2f} with the check)", own.net_speed >= least)


def _times(summaries: Summaries, section: str, rival: str, least: float) -> Claim:
    text = f"{section}: at least {least} x {rival}"
    own, other = summaries.get((section, "revops")), summaries.get((section, rival))
    if own is None or other is None:
        return Claim(text, "", None)
    times = own.speed / other.speed
    return Claim(text, f"{times:.1f} x", times >= least)


def _near_the_copy(summaries: Summaries) -> Claim:
    text = "increment: cursor within 3.5 x psql COPY of just those rows, without interpreter and check"
    own = summaries.get((INCREMENT, "revops cursor"))
    if own is None:
        return Claim(text, "", None)
    times = (own.wall - own.start - own.check) / own.reference_wall
    return Claim(text, f"{times:.1f} x ({own.wall / own.reference_wall:.1f} x with both)", times <= 3.5)


def _no_slower_than_ingestr(summaries: Summaries) -> Claim:
    text = "increment: cursor no slower than ingestr merge, without interpreter and check"
    own, other = summaries.get((INCREMENT, "revops cursor")), summaries.get((INCREMENT, "ingestr"))
    if own is None or other is None:
        return Claim(text, "", None)
    took = own.wall - own.start - own.check
    return Claim(text, f"{took:.2f} s ({own.wall:.2f} s with both), {other.wall:.2f} s", took <= other.wall)


def _one_scan_more(summaries: Summaries) -> Claim:
    text = "increment: xid at most one source scan more than cursor"
    cursor, xid = summaries.get((INCREMENT, "revops cursor")), summaries.get((INCREMENT, "revops xid"))
    scan = summaries.get((INCREMENT, "source scan"))
    if cursor is None or xid is None or scan is None:
        return Claim(text, "", None)
    more = xid.wall - cursor.wall
    return Claim(text, f"{more:.2f} s more, the scan is {scan.wall:.2f} s", more <= scan.wall)


def _nothing_changed(summaries: Summaries) -> Claim:
    # Under Airflow the interpreter is there before the task is.
    text = "nothing changed: within the source scan + 1 s, the start of the interpreter apart"
    own = summaries.get((NOTHING, "revops xid"))
    if own is None:
        return Claim(text, "", None)
    took = own.wall - own.start
    figure = f"{took:.2f} s ({own.wall:.2f} s with it), the scan is {own.reference_wall:.2f} s"
    return Claim(text, figure, took <= own.reference_wall + 1)


def _small(summaries: Summaries) -> Claim:
    text = f"memory: every run of Revops below {LARGEST_RSS} MB"
    found = [summary.rss for (_, contender), summary in summaries.items() if contender.startswith("revops")]
    return Claim(text, f"at most {max(found):.0f} MB", max(found) < LARGEST_RSS) if found else Claim(text, "", None)


def _constant(summaries: Summaries) -> Claim:
    text = "memory: no growth with the rows"
    loads = [summary for (section, _), summary in summaries.items() if section.startswith(MEMORY)]
    variants = {summary.contender for summary in loads}
    growths = {}
    for variant in sorted(variants):
        ordered = sorted((summary.rows, summary.rss) for summary in loads if summary.contender == variant)
        growths[variant] = ordered[-1][1] / ordered[0][1]
    if not growths:
        return Claim(text, "", None)
    figure = ", ".join(f"{variant} x {growth:.2f}" for variant, growth in growths.items())
    return Claim(text, figure, max(growths.values()) <= LARGEST_GROWTH)


def _encrypted(summaries: Summaries) -> Claim:
    text = "encryption: two columns of lead at 0.5 of the plain load's speed or more, without the check"
    plain, encrypted = summaries.get((ENCRYPTION, "revops")), summaries.get((ENCRYPTION, "revops encrypted"))
    if plain is None or encrypted is None:
        return Claim(text, "", None)
    share = encrypted.net_speed / plain.net_speed
    return Claim(text, f"{share:.2f}", share >= 0.5)
