"""Links in the documents. The strict build of the site checks those between its pages; here without a build."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support import doc_blocks

DOCUMENTS = {doc_blocks.name_of(path): path for path in (*doc_blocks.documents(), doc_blocks.ROOT / "CHANGELOG.md")}
LINK = re.compile(r"\]\(([^)\s]+)\)|<(https?://[^>\s]+)>|(?<![(<\w])(https?://[^\s)>\]`,]+)")


def links(path: Path) -> list[str]:
    text = re.sub(r"(?ms)^ *```.*?^ *```$|`[^`\n]*`", "", path.read_text(encoding="utf-8"))
    return [next(filter(None, match)) for match in LINK.findall(text)]


def headings(path: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and the site make them."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"))
    titles = re.findall(r"(?m)^#+ +(.*)$", text)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name):
    path = DOCUMENTS[name]
    broken = []
    for link in links(path):
        target, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        file = path if not target else path.parent / target
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("name", DOCUMENTS)
def test_addresses_are_well_formed(name):
    for link in links(DOCUMENTS[name]):
        parts = urlsplit(link)
        if parts.scheme in ("http", "https"):
            local = parts.hostname in ("localhost", "127.0.0.1")
            assert local or (parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname)), link
