import pytest

from consumer.errors import ConfigurationError, GroupError
from consumer.grouping.group_ids import digits, group_id_names, lsst, visit_id_of


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("3045469", 3045469),
        ("2025-12-03T07:58:30.425", 20251203075830425),
        ("1:234-5.6", 123456),
        ("A12", 12),
        ("B12", 12),
        ("0007", 7),
        ("0" * 5000 + "7", 7),
        ("caf\u00e9 12", 12),
        ("-12", 12),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_digits(group: str, expected: int) -> None:
    assert digits(group) == expected


@pytest.mark.parametrize("group", ["", "no number", str(2**63), "9" * 5000])
def test_digits_refuses(group: str) -> None:
    with pytest.raises(GroupError) as caught:
        digits(group)
    assert group[:80] in caught.value.detail


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("1545076", 1545076),
        ("-3", -3),
        ("2025-12-03T07:58:30.425+1", 3446783104250001),
        ("2025-12-03T07:59:38.425#12", 3446783784250012),
        ("2025-12-03T07:59:04.425", 3446783444250000),
        ("2022-04-06T02:56:53.255", 2291434132550000),
        ("2015-01-01T00:00:00.000", 0),
        ("2015-01-01T00:00:01.002+00003", 10020003),
        ("2015-01-01T00:00:01.002+12345", 100212345),
        ("2016-02-29T00:00:00.000", (365 + 31 + 28) * 86400 * 10**7),
        # Hashes made with coreutils: printf %s NAME | b2sum | cut -c-14.
        ("daily calibs", 608726847046724912),
        ("2025-12-03T07:58:30.42", 1801909922231915122),
        ("2025-12-03T07:58:30.425+1 ", 538388546724874526),
        ("", 3389355817605564100),
    ],
)
def test_lsst(group: str, expected: int) -> None:
    assert lsst(group) == expected


@pytest.mark.parametrize(
    "group",
    [
        "caf\u00e9",
        "2025-02-29T00:00:00.000",
        "2025-13-01T00:00:00.000",
        "2025-12-00T00:00:00.000",
        "2025-12-03T24:00:00.000",
        "2025-12-03T00:60:00.000",
        "2025-12-03T00:00:60.000",
        "0000-12-03T00:00:00.000",
        str(2**63),
        str(-(2**63) - 1),
        "1" * 5000,
        "2025-12-03T07:58:30.425+" + "1" * 5000,
        "x" * 1000,
    ],
)
def test_lsst_refuses(group: str) -> None:
    with pytest.raises(GroupError) as caught:
        lsst(group)
    assert group[:80] in caught.value.detail


def test_found_by_name() -> None:
    assert {name: visit_id_of(name) for name in group_id_names()} == {"digits": digits, "lsst": lsst}
    with pytest.raises(ConfigurationError, match="group_id: unknown 'roman'; known: digits, lsst"):
        visit_id_of("roman")
