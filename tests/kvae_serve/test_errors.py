"""Errors: one printable line of limited length, whatever the message contains."""

from __future__ import annotations

import pickle

import pytest

from kvae_serve import errors

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.KvaeError)]


LIMITS = {errors.ModelFileError: 200, errors.InputDataError: 3000}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\u200b" * 200, "x" * 10**6, "\ud800"], ids=range(5))
def test_message_is_one_printable_line(kind, text):
    error = kind(f"{text} is wrong; expected another.")
    assert str(error).isprintable()
    assert len(f"Error: {error}") <= LIMITS.get(kind, 1000)
    assert str(error).endswith("expected another.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_short_message_is_unchanged():
    assert str(errors.RequestError("Größe ist 3; expected 4.")) == "Größe ist 3; expected 4."
