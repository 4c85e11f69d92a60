"""The section Measured of a model card is replaced, and the rest of the card does not change."""

import pytest

from kvae_serve.errors import InputDataError
from kvae_serve.evaluation import card

HEAD, LIMITS = "# digits\n\nA model.\n\n## Use\n\nIn a folder.\n\n", "## Limits\n\n- It knows digits.\n"


def test_section_is_inserted_before_limits():
    result = card.with_measured(HEAD + LIMITS, "kvae evaluate -m digits", ["elbo  -85.6", "kl  18.0"])
    assert result.startswith(HEAD + "## Measured\n\nOn the exported files, by `kvae evaluate -m digits` (")
    assert result.endswith("```text\nelbo  -85.6\nkl  18.0\n```\n\n" + LIMITS)


def test_older_section_is_replaced():
    once = card.with_measured(HEAD + LIMITS, "kvae evaluate", ["elbo  -99"])
    assert card.with_measured(once, "kvae evaluate", ["elbo  -85"]) == once.replace("-99", "-85")
    last = HEAD + "## Measured\n\nOld.\n"
    assert "Old." not in card.with_measured(last, "kvae evaluate", ["elbo  -85"])
    assert card.with_measured(last, "kvae evaluate", ["new"]).count("## Measured") == 1


def test_section_is_appended_to_a_card_without_limits():
    result = card.with_measured(HEAD, "kvae evaluate", ["elbo  -85"])
    assert result.startswith(HEAD + "## Measured\n")
    assert result.endswith("elbo  -85\n```\n")
    assert card.with_measured(result, "kvae evaluate", ["elbo  -85"]) == result


def test_metrics_cannot_close_their_code_block():
    result = card.with_measured(HEAD + LIMITS, "kvae evaluate", ["```", "\\1 \\g<0>"])
    assert result.count("```") == 2
    assert "\\1 \\g<0>" in result


def test_unreadable_card_is_rejected(tmp_path):
    with pytest.raises(InputDataError, match="cannot be read: No such file"):
        card.read(str(tmp_path / "none.md"))
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputDataError, match="not UTF-8 text"):
        card.read(str(tmp_path / "bytes.md"))
