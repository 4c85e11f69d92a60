"""The section Measured of a model card is set in place, and nothing else of the card changes."""

import pytest

from kvae_serve.errors import InputDataError
from kvae_serve.evaluation import card

HEAD, LIMITS = "# digits\n\nA model.\n\n## Use\n\nIn a folder.\n\n", "## Limits\n\n- It knows digits.\n"


def test_the_section_stands_before_limits():
    found = card.with_measured(HEAD + LIMITS, "kvae evaluate -m digits", ["elbo  -85.6", "kl  18.0"])
    assert found.startswith(HEAD + "## Measured\n\nOn the exported files, by `kvae evaluate -m digits` (")
    assert found.endswith("```text\nelbo  -85.6\nkl  18.0\n```\n\n" + LIMITS)


def test_an_older_section_is_replaced_wherever_it_stands():
    once = card.with_measured(HEAD + LIMITS, "kvae evaluate", ["elbo  -99"])
    assert card.with_measured(once, "kvae evaluate", ["elbo  -85"]) == once.replace("-99", "-85")
    last = HEAD + "## Measured\n\nOld.\n"
    assert "Old." not in card.with_measured(last, "kvae evaluate", ["elbo  -85"])
    assert card.with_measured(last, "kvae evaluate", ["new"]).count("## Measured") == 1


def test_a_card_without_limits_gets_the_section_at_its_end():
    found = card.with_measured(HEAD, "kvae evaluate", ["elbo  -85"])
    assert found.startswith(HEAD + "## Measured\n")
    assert found.endswith("elbo  -85\n```\n")
    assert card.with_measured(found, "kvae evaluate", ["elbo  -85"]) == found


def test_figures_cannot_leave_their_block():
    found = card.with_measured(HEAD + LIMITS, "kvae evaluate", ["```", "\\1 \\g<0>"])
    assert found.count("```") == 2
    assert "\\1 \\g<0>" in found


def test_what_is_no_card_is_refused(tmp_path):
    with pytest.raises(InputDataError, match="cannot be read: No such file"):
        card.read(str(tmp_path / "none.md"))
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputDataError, match="not UTF-8 text"):
        card.read(str(tmp_path / "bytes.md"))
