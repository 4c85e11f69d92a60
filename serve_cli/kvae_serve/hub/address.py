"""Addresses of models on the Hugging Face Hub: `hf://owner/repo[@revision][/folder]`."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from kvae_serve.errors import RequestError, printable

SCHEME = "hf://"

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ADDRESS = re.compile(rf"hf://({_NAME})/({_NAME})(?:@([^/@\s]{{1,200}}))?((?:/{_NAME})*)/?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Address(NamedTuple):
    """Parts of an address.

    Attributes:
        repo: `owner/repo`.
        revision: Branch, tag or commit.
        folder: Folder of the model in the repository, "" for its root.
    """

    repo: str
    revision: str = "main"
    folder: str = ""

    @property
    def is_pinned(self) -> bool:
        """True if the revision is a commit of 40 digits, which cannot change."""
        return bool(_COMMIT.fullmatch(self.revision))

    def file(self, name: str) -> str:
        """Return the path of a file in the repository."""
        return f"{self.folder}/{name}" if self.folder else name

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{quote(self.revision, safe='')}"
        return f"{SCHEME}{self.repo}{revision}{f'/{self.folder}' if self.folder else ''}"


def parse(text: str) -> Address:
    """Parse an address.

    A slash in the name of a revision is written as `%2F`: `hf://owner/repo@refs%2Fpr%2F1`.

    Raises:
        RequestError: The text is not an address.
    """
    match = _ADDRESS.fullmatch(text)
    parts = text.removeprefix(SCHEME).split("/")
    if match is None or ".." in text or any(part.endswith((".git", ".")) for part in parts):
        raise RequestError(
            f"{printable(text, 60)} is not an address of a model; expected hf://owner/repo, "
            "hf://owner/repo@revision or hf://owner/repo/folder."
        )
    owner, repo, revision, folder = match.groups()
    return Address(f"{owner}/{repo}", unquote(revision) if revision else "main", folder.strip("/"))
