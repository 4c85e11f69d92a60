"""Date formats: found from cells, read like `strptime` reads them, and written back unchanged."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from kvae_serve import dates

DAYS = [datetime(2024, 2, 29, 23, 59, 58), datetime(1969, 7, 20, 9, 5, 7), datetime(2013, 11, 3, 0, 0, 0)]
FORMATS = [
    "%Y-%m-%d", "%Y/%m/%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%b-%Y",
    "%b %d, %Y", "%B %d %Y", "%d %B %Y", "%m/%d/%Y %I:%M %p", "%H:%M:%S",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_formats_agree_with_the_standard_library(form):
    cells = [day.strftime(form) for day in DAYS]
    assert dates.formats(cells)[0] == form
    expected = [
        datetime.strptime(cell, form).replace(tzinfo=UTC, year=day.year if "%Y" in form else 1970).timestamp()
        for cell, day in zip(cells, DAYS, strict=True)
    ]
    if "%Y" not in form:
        expected = [value % 86400 for value in expected]
    seconds = dates.parse(cells, form)
    np.testing.assert_array_equal(seconds, expected)
    assert dates.write(seconds, form) == cells


@pytest.mark.parametrize(
    "cells",
    [
        ["1/2/2024", "12/31/2024"],
        ["2024-01-01T00:00:00Z", "2024-01-02T10:30:00Z"],
        ["2024-01-01T00:00:00+02:00", "2024-01-02T10:30:00+02:00"],
        ["2024-01-01 00:00:00.250000", "2024-01-02 10:30:00.000001"],
        ["2024-01-01 00:00:00.250", "2024-01-02 10:30:00.001", "9998-12-31 23:59:59.274", "2199-01-01 00:00:00.999"],
        ["00:00:00.2", "10:30:00.9"],
        ["2024-01-01T00:00:00.25Z", "2024-01-02T10:30:00.07Z"],
        ["9:05 AM", "12:30 PM"],
        ["0001-01-01", "9999-12-31"],
    ],
)
def test_dates_are_written_as_they_were(cells):
    form = dates.formats(cells)[0]
    assert dates.write(dates.parse(cells, form), form) == cells


def test_fraction_of_a_second_has_the_digits_of_the_cells():
    assert dates.formats(["12:30:59.274", "01:02:03.001"]) == ["%H:%M:%S.%3f"]
    assert dates.formats(["12:30:59.274000", "01:02:03.001000"]) == ["%H:%M:%S.%f"]
    assert dates.with_digits(["%f 59.27"], "%%f %S.%f") == "%%f %S.%2f"
    assert dates.is_format("%S.%3f")
    assert not any(map(dates.is_format, ("%S.%7f", "%3S", "%S.%0f")))
    # Carried to the next second.
    assert dates.write(np.array([59.9996, 1.00049]), "%M:%S.%3f") == ["01:00.000", "00:01.000"]


def test_ambiguous_days_and_months_have_two_formats():
    assert dates.formats(["03/04/2024", "05/06/2024"]) == ["%m/%d/%Y", "%d/%m/%Y"]
    assert dates.formats(["03.04.2024"]) == ["%d.%m.%Y", "%m.%d.%Y"]
    assert dates.formats(["03/04/2024", "25/06/2024"]) == ["%d/%m/%Y"]


@pytest.mark.parametrize("cells", [["2024-02-30"], ["2024-01-01", "soon"], ["25:00"], ["12"], ["3-4"], []])
def test_other_texts_are_not_dates(cells):
    assert dates.formats(cells) == []


def test_values_are_rounded_to_the_unit_of_the_format_and_stay_in_the_calendar():
    assert dates.write(np.array([86_400 * 0.6, 1e300, -1e300]), "%Y-%m-%d") == [
        "1970-01-02",
        "9999-12-31",
        "0001-01-01",
    ]
    assert dates.write(np.array([59.6, 89.0]), "%H:%M") == ["00:01", "00:01"]


@pytest.mark.parametrize("form", ["", "day", "%Q", "%Y-%", "%Y" * 2, "%-Y", "%Y" + " " * 60, "%Y\n", None, 3])
def test_invalid_formats_are_refused(form):
    assert not dates.is_format(form)


@pytest.mark.parametrize("form", [*FORMATS, "%-m/%-d/%y", "100%% %Y"])
def test_valid_formats_are_accepted(form):
    assert dates.is_format(form)


@pytest.mark.parametrize(
    ("frequency", "num", "calendar", "text"),
    [
        ("ME", 60, {"month_days": [-1]}, "the last day of a month"),
        ("ME", 4, {"month_days": [-1]}, "the last day of a month"),
        ("MS", 60, {"month_days": [1]}, "day 1 of a month"),
        ("SMS", 60, {"month_days": [1, 15]}, "day 1, day 15 of a month"),
        ("SME", 60, {"month_days": [-1, 15]}, "the last day, day 15 of a month"),
        ("QE", 40, {"month_days": [-1], "months": [3, 6, 9, 12]}, "the last day of Mar, Jun, Sep, Dec"),
        ("YS", 20, {"month_days": [1], "months": [1]}, "day 1 of Jan"),
        ("B", 90, {"weekdays": [0, 1, 2, 3, 4]}, "Mon, Tue, Wed, Thu, Fri"),
        ("W-SUN", 30, {"weekdays": [6]}, "Sun"),
        ("D", 400, {}, ""),
        ("D", 5, {}, ""),
        ("ME", 3, {}, ""),
        ("h", 400, {}, ""),
    ],
)
def test_calendar_of_dates_agrees_with_pandas(frequency, num, calendar, text):
    pandas = pytest.importorskip("pandas")
    moments = pandas.date_range("1965-02-03", periods=num, freq=frequency)
    seconds = moments.to_numpy().astype("datetime64[s]").astype(np.float64)
    assert dates.calendar(np.random.default_rng(0).permutation(np.repeat(seconds, 2))) == calendar
    assert dates.describe_calendar(calendar) == text
    if not calendar:
        return
    values = 86_400 * np.round(np.random.default_rng(1).uniform(seconds[0] - 1e7, seconds[-1] + 1e7, 500) / 86_400)
    closest = np.abs(np.clip(values, seconds[0], seconds[-1])[:, None] - seconds).argmin(axis=1)  # the earlier of two
    np.testing.assert_array_equal(dates.nearest(values, calendar, seconds[0], seconds[-1]), seconds[closest])


def test_nearest_day_keeps_the_time_and_missing_dates():
    saturday, monday = dates.parse(["2024-03-02 13:30", "2024-03-04 09:00"], "%Y-%m-%d %H:%M")
    calendar = {"weekdays": [0, 1, 2, 3, 4]}
    moved = dates.nearest(np.array([saturday, np.nan, monday, 1e300]), calendar, dates.FIRST, dates.LAST)
    assert dates.write(moved[[0, 2, 3]], "%Y-%m-%d %H:%M") == [
        "2024-03-01 13:30",
        "2024-03-04 09:00",
        "9999-12-31 23:59",
    ]
    assert np.isnan(moved[1])
    never = dates.nearest(np.array([saturday]), {"month_days": [30], "months": [2]}, dates.FIRST, dates.LAST)
    assert never[0] == saturday
