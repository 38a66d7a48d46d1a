"""What messages look like to people: bounded, escaped, and nothing in them executed."""

import pytest

from celeriac.wire import legible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, grün", "plain text, grün"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m", r"\x9b31m"),
        ("right\u202eleft", r"right\u202eleft"),
        ("\udc80", r"\udc80"),
        ("\x7f", r"\x7f"),
    ],
)
def test_what_does_not_print_is_an_escape(text: str, shown: str) -> None:
    assert legible.escaped(text) == shown


def test_some_may_be_kept() -> None:
    assert legible.escaped("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_what_is_long_is_cut() -> None:
    assert legible.bounded("x" * 10, 10) == "x" * 10
    assert legible.bounded("x" * 10, None) == "x" * 10
    assert legible.bounded("x" * 1210, 10) == "xxxxxxxxxx... (1,200 more characters)"


def test_json_is_read_and_not_revived() -> None:
    typed = b'{"__type__": "datetime", "__value__": "2030-01-01"}'
    assert legible.plain_json(typed) == {"__type__": "datetime", "__value__": "2030-01-01"}
    for wrong in (b"{", b"\xff", b"", b"[" * 100_000):
        with pytest.raises(ValueError, match=r"."):
            legible.plain_json(wrong)


def test_json_is_laid_out() -> None:
    assert legible.laid_out({"a": [1, None, "ü\x1b"]}) == '{"a": [1, null, "ü\\u001b"]}'
    assert legible.laid_out(["x" * 40, "y" * 40]).splitlines() == [
        "[",
        f'  "{"x" * 40}",',
        f'  "{"y" * 40}"',
        "]",
    ]
    assert legible.laid_out("\x7f\u202e") == '"\\x7f\\u202e"'
    assert legible.laid_out("x" * 1000, 5) == '"xxxx... (997 more characters)'


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"some text\nof lines", "some text\nof lines"),
        ("grün und blau \x1b".encode(), "grün und blau \\x1b"),
        (b"\x80\x04.", "80 04 2e"),
        (b"with a zero \0", "77 69 74 68 20 61 20 7a 65 72 6f 20 00"),
        (b"\x01\x02\x03ab", "01 02 03 61 62"),
        (b"", ""),
    ],
)
def test_other_bytes(data: bytes, shown: str) -> None:
    assert legible.text_of(data) == shown


def test_other_bytes_are_bounded_before_they_are_read() -> None:
    # Cut in the middle of a letter, and still a text.
    assert legible.text_of(b"x" + "ü".encode() * 1000, 100) == (
        "x" + "ü" * 49 + "... (2,001 bytes in all)"
    )
    assert legible.text_of(b"\0" * 10_000_000, 2) == "00 00... (10,000,000 bytes in all)"
