"""Where checkpoints lie, and whose an object is."""

from __future__ import annotations

import pytest

from longtask_worker.checkpoints.layout import Prefix, Slot, folder_of, is_part_name, parse_prefix, part_name

PREFIX = Prefix(root="s3://b/ckpt/u-1/", attempt=7)


@pytest.mark.parametrize("uri", ["s3://b/ckpt/u-1/7/", "s3://b/ckpt/u-1/7"])
def test_the_attempts_own_prefix(uri: str) -> None:
    assert parse_prefix(uri, "u-1", 7) == PREFIX
    assert PREFIX.uri == "s3://b/ckpt/u-1/7/"
    assert PREFIX.folder(3) == "s3://b/ckpt/u-1/7/3/"


@pytest.mark.parametrize("uri", ["s3://b/ckpt/u-1/6/", "s3://b/u-1/ckpt/7/", "s3://b/ckpt/xu-1/7/", "/u-1/7/x", ""])
def test_another_prefix_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="own prefix"):
        parse_prefix(uri, "u-1", 7)


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        ("7/3/manifest.json", Slot(attempt=7, number=3)),
        ("12/1/part-00000", Slot(attempt=12, number=1)),
        ("7/3/.part-00000.ab12", Slot(attempt=7, number=3)),  # what a killed writer of a file leaves
        ("7/manifest.json", None),
        ("7/3/", None),
        ("7/3/sub/x", None),
        ("07/3/x", None),
        ("0/3/x", None),
        ("a/3/x", None),
        ("../3/x", None),
    ],
)
def test_whose_an_object_is(below: str, expected: Slot | None) -> None:
    assert PREFIX.slot_of(PREFIX.root + below) == expected
    assert PREFIX.slot_of("s3://b/ckpt/u-2/" + below) is None


def test_later_ones_compare_greater() -> None:
    assert Slot(attempt=1, number=99) < Slot(attempt=2, number=1) < Slot(attempt=2, number=10)


def test_names() -> None:
    assert folder_of("s3://b/u/1/2/manifest.json") == "s3://b/u/1/2/"
    assert part_name(3) == "part-00003"
    assert is_part_name(part_name(123_456))
    for wrong in ("part-3", "../part-00003", "part-00003/x", "manifest.json", "part-00003\n"):
        assert not is_part_name(wrong)
