"""Dates of metadata: every form that hosts, files and stores write, against moments worked out by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from rag_rerank.text.dates import find_value, read_date, to_days

MIDNIGHT = datetime(2024, 1, 31, tzinfo=timezone.utc)
TEN = datetime(2024, 1, 31, 10, tzinfo=timezone.utc)  # 1,706,695,200 seconds after 1970 began

FORMS: list[tuple[Any, datetime]] = [
    (TEN, TEN),
    (datetime(2024, 1, 31, 10), TEN),
    (datetime(2024, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), TEN),
    (date(2024, 1, 31), MIDNIGHT),
    ("2024-01-31T10:00:00Z", TEN),
    ("2024-01-31t10:00:00z", TEN),
    ("2024-01-31 10:00", TEN),
    (" 2024-01-31 10:00:00 UTC ", TEN),
    ("2024-01-31T10:00:00.5Z", TEN + timedelta(seconds=0.5)),
    ("2024-01-31T10:00:00,123456789Z", TEN + timedelta(microseconds=123_456)),
    ("2024-01-31T12:00:00+02:00", TEN),
    ("2024-01-31T04:30:00-0530", TEN),
    ("20240131T100000Z", TEN),
    ("2024-01-31", MIDNIGHT),
    ("2024-1-31", MIDNIGHT),
    ("2024/01/31", MIDNIGHT),
    ("2024.01.31", MIDNIGHT),
    ("20240131", MIDNIGHT),
    (20240131, MIDNIGHT),
    ("20240131100000", TEN),
    ("2024-01", datetime(2024, 1, 1, tzinfo=timezone.utc)),
    ("2024", datetime(2024, 1, 1, tzinfo=timezone.utc)),
    (2024, datetime(2024, 1, 1, tzinfo=timezone.utc)),
    ("Wed, 31 Jan 2024 10:00:00 GMT", TEN),
    ("31 Jan 2024 12:00:00 +0200", TEN),
    ("D:20240131100000Z", TEN),
    ("D:20240131100000Z00'00'", TEN),
    ("D:20240131110000+01'00'", TEN),
    ("D:20240131", MIDNIGHT),
    (1_706_695_200, TEN),
    (1_706_695_200.0, TEN),
    ("1706695200", TEN),
    ("1706695200.5", TEN + timedelta(seconds=0.5)),
    (1_706_695_200_000, TEN),
    (1_706_695_200_000_000, TEN),
    (1_706_695_200_000_000_000, TEN),
    (-86_400, datetime(1969, 12, 31, tzinfo=timezone.utc)),
    (np.int64(1_706_695_200), TEN),
    (np.datetime64("2024-01-31"), MIDNIGHT),
    (np.datetime64("2024-01-31T10:00", "ns"), TEN),
]

NO_DATES: list[Any] = [
    *(None, True, "", "soon", "01/02/2024", "2024-13-01", "2024-02-30", "2024-01-31T25:00", "2024-01-31x"),
    *(float("nan"), float("inf"), 10**400, [2024], {"year": 2024}, b"2024", "２０２４-01-31", "0000-01-01"),
    *(np.datetime64("NaT", "s"), datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
]


@pytest.mark.parametrize(("value", "moment"), FORMS, ids=[repr(value) for value, _ in FORMS])
def test_a_date_is_one_moment_in_utc(value: Any, moment: datetime) -> None:
    read = read_date(value)
    assert read == moment
    assert read is not None and read.tzinfo is timezone.utc


@pytest.mark.parametrize("value", NO_DATES, ids=range(len(NO_DATES)))
def test_what_is_no_date_is_none(value: Any) -> None:
    assert read_date(value) is None


def test_dates_of_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    assert read_date(pandas.Timestamp("2024-01-31 11:00", tz="Europe/Berlin")) == TEN
    assert read_date(pandas.NaT) is None
    assert read_date(pandas.NA) is None


def test_days() -> None:
    assert to_days(timedelta(days=2, hours=12)) == 2.5


def test_a_key_with_dots_is_a_key_or_a_path() -> None:
    assert find_value({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert find_value({"a": {"b": 2}}, "a.b") == 2
    assert find_value({"a": 3}, "a.b") is None
    assert find_value({}, "a") is None
