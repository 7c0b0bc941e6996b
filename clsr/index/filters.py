"""Filters of a search: recordings, a folder, dates. ``Filter`` is ``clsr.Filter``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from clsr.audio.spelling import as_on_disk, spellings
from clsr.errors import InputError

# So that the days around them are dates in all time zones.
FIRST_DAY = datetime.min.replace(tzinfo=timezone.utc) + timedelta(days=3)
LAST_DAY = datetime.max.replace(tzinfo=timezone.utc) - timedelta(days=3)


@dataclass(frozen=True)
class Filter:
    """Limits a search to windows that meet every given condition.

    Attributes:
        recordings: files; empty for all.
        folder: only recordings in it, at any depth.
        since, until: only files last changed then or later, then or earlier. Dates without a time stand for their whole
            day, and times without a zone are local; texts are read as ISO 8601 (``2026-05-31``, ``2026-05-31T18:30``).

    Raises:
        InputError: a text is no date, or ``until`` is before ``since``.
    """

    recordings: Sequence[str | Path] = ()
    folder: str | Path | None = None
    since: str | date | None = None
    until: str | date | None = None

    def __post_init__(self) -> None:
        if isinstance(self.recordings, str | Path):
            raise InputError(f"recordings is {str(self.recordings)!r}: give a list of files")
        if self.since is not None and self.until is not None and first_instant(self.since) >= _after(self.until):
            raise InputError(f"no file changed since {self.since} and until {self.until}: give an earlier date first")
        if self.until is not None:
            _after(self.until)
        if self.since is not None:
            first_instant(self.since)

    @property
    def paths(self) -> list[str]:
        """The recordings as the index names them: absolute paths without links."""
        return [str(as_on_disk(Path(recording)).resolve()) for recording in self.recordings]

    def to_sql(self) -> str:
        """The filter as a condition in SQL; empty if it has no condition."""
        conditions = []
        if self.recordings:
            conditions.append(is_recording(*self.paths))
        if self.folder is not None:
            # Not LIKE, in which "_" and "%" of a path stand for other characters: all that starts with "x/" lies
            # between "x/" and "x0", the character that follows the slash.
            folders = spellings(str(as_on_disk(Path(self.folder)).resolve()).rstrip("/"))
            inside = (f"recording >= {quote(f'{one}/')} AND recording < {quote(f'{one}0')}" for one in folders)
            conditions.append(f"({' OR '.join(inside)})")
        if self.since is not None:
            conditions.append(f"modified >= {_timestamp(first_instant(self.since))}")
        if self.until is not None:
            conditions.append(f"modified < {_timestamp(_after(self.until))}")
        return " AND ".join(conditions)


def is_recording(*paths: str) -> str:
    """The condition that a row is of one of the recordings, however the letters of its path are composed."""
    return f"recording IN ({', '.join(quote(one) for path in paths for one in spellings(path))})"


def quote(text: str) -> str:
    """A text as a literal of SQL.

    >>> print(quote("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def first_instant(when: str | date) -> datetime:
    """The time that a text states; for a date, its start."""
    if isinstance(when, str):
        text = when.strip()
        try:
            # Python 3.10 does not read the Z of UTC.
            when = date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            raise InputError(f"{text!r} is no date; give one such as 2026-05-31 or 2026-05-31T18:30") from None
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day)
    try:
        instant = when.astimezone(timezone.utc)
    except (OverflowError, ValueError, OSError):  # within a day of the first or last date that there is
        instant = when.replace(tzinfo=timezone.utc)
    return max(FIRST_DAY, min(instant, LAST_DAY))


def _after(when: str | date) -> datetime:
    """The first moment that is later, to the microsecond: of a date, the start of the next day."""
    start = first_instant(when)
    whole_day = len(when.strip()) == 10 if isinstance(when, str) else not isinstance(when, datetime)
    if not whole_day:
        return start + timedelta(microseconds=1)
    local = start.astimezone()  # days of 23 and 25 hours end at midnight too
    following = (local + timedelta(hours=36)).date()
    return datetime(following.year, following.month, following.day).astimezone(timezone.utc)


def _timestamp(instant: datetime) -> str:
    return f"timestamp {quote(instant.isoformat(sep=' ', timespec='microseconds'))}"
