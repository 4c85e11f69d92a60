"""Commands and options that README.md and the pages under docs/ show: each exists."""

import re
import shlex
from pathlib import Path

import pytest

from kvae.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown(text):
    """Commands in fenced blocks and in code between ticks, without comments, prompts and the path of an environment."""
    lines, prose, language = [], [], None
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            language = line[3:] if language is None else None
        elif language is None:
            prose.append(line)
        elif language in ("", "sh"):
            lines.append(line)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", "\n".join(prose))]
    for line in lines + spans:
        for part in re.split(r"&&|\||;", line.removeprefix("$ ")):
            if not re.search(r"(^|/)kvae\s", part):
                continue
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # cut within quotes: the command and the words before the cut are complete
                words = part.split()
            if len(words) > 1 and Path(words[0]).name == "kvae" and re.fullmatch(r"[a-z]+", words[1]):
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_exist(page):
    unknown = []
    for name, *words in shown(page.read_text(encoding="utf-8")):
        if name not in COMMANDS:
            unknown.append(f"kvae {name}")
            continue
        params = COMMANDS[name].load().params
        options = {
            option for each in params for option in (*each.opts, *each.secondary_opts, *getattr(each, "former", ()))
        } | {"--help", "-h"}
        given = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        unknown += [f"kvae {name} {option}" for option in given if option not in options]
    assert not unknown


def test_the_reading_finds_commands():
    pages = {page.name: list(shown(page.read_text(encoding="utf-8"))) for page in PAGES}
    assert ["sample", "--label", "3"] in pages["README.md"]
    assert ["export", "run", "--triton", "models"] in pages["deploy.md"]
    assert list(shown("```sh\nkvae nonsense --wrong=3  # said\n```")) == [["nonsense", "--wrong=3"]]
