"""Check that documents and docstrings are written in plain English.

Counts turns of phrase that make readers stumble, per 1,000 words. Fails if a document, or all docstrings and comments
of a package, has more than LIMIT, or if a docstring starts with a question word (benchmarks open with their question).
Measured the same way on 2026-11-30, docstrings of Keras, click, scikit-learn, ONNX and JAX have 0.4 to 1.7.

    python .ci/check_prose.py            # the whole repository
    python .ci/check_prose.py FILE ...   # these files, with every finding
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 4.0
PACKAGES = ("kvae", "export/kvae_export", "serve_cli/kvae_serve", "tests", "benchmarks", "fuzz", ".ci")
DOCUMENTS = ("*.md", "docs/**/*.md", "saved_models/*/*.md", "benchmarks/*.md", ".github/**/*.md")

TURNS = {
    "comma for": r", for (?:it|they|there|no|not|a|an|the|one|what|who|nobody|nothing|that|this|these|all|each|every)\b",
    "is no": r"\b(?:is|are|was|were|has|have|had|takes|take|makes|make|gives|needs|need|knows) (?-i:no|none)\b(?! (?:longer|more)\b)",
    "subject nobody": r"\b(?:nobody|nothing|none|whoever|no one)\b (?:is|are|has|have|does|do|can|of|else|but|here|that|in|will|was|may|needs?)\b",
    "noun clause": r"(?:^|[.:;(] )(?:what|who|where|which|whose|how much|how many) (?:[a-z]+ ){1,6}(?:is|are|was|has|have|does|gives|takes|comes|stands|goes|lies|makes)\b",
    "of what": r"\b(?:of|from|to|with|by|in|than|all|and|or) what (?:is|are|was|it|they|the|a|an|was|has|can|fit|[a-z]+s)\b",
    "where for if": r"\b(?:unless|except|error|raises?|fails?|refused|raised|None|nothing|and|or),? where\b",
    "own": r"\bof (?:its|their|his|your|our) own\b",
    "as it stands": r"\b(?:as it stands|as they stand|at hand|at last|so many|so much|as ever|a word of|as well as any)\b",
    "archaic": r"\b(?:anew|likewise|dear|mended|cured|lone|apart from that|foremost|beside|besides|thus|hence|whence|whither|lest|albeit|forth|therein|thereof|wherever|whichever|meanwhile)\b",
    "talking code": r"\b(?:it|kvae|file|model|command|function|class|method|code|manifest|graph|reader|error|message|line|script|test|keras|tensorflow)s? (?:says?|said|tells?|told|knows?|hears?|wants?|speaks?|sees?|asks?|learns? of|minds?)\b",
    "is said": r"\b(?:is|are|was|were|be|been) (?:said|told|heard|asked for|handed|given nothing|looked at|known by|spoken)\b",
    "other than": r"\b(?:other than|others than|another than|no other)\b",
    "an epoch": r"\b(?:a line|once|lines?|steps?|times|seconds?|nats?|examples?|images?|rows?) (?:an|a) (?:epoch|second|image|row|example|step|minute|batch|class|pixel)\b",
    "again and again": r"\b(?:once more|over again|all the same|to come to|do it again|does it again|done again)\b",
    "prepositional end": r"\b(?:is|are) (?:for|there|here) (?:what|who|whoever|those who)\b",
}
PATTERNS = {name: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for name, pattern in TURNS.items()}
HEADLESS = re.compile(r"(?:What|Who|Where|Which|How|Whose|Whether|Why)\b")
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


def prose_of_markdown(text: str) -> str:
    """Return the text of a Markdown document without code blocks, code spans, links and HTML comments."""
    text = re.sub(r"(?ms)^ *(```|~~~).*?^ *\1 *$", "", text)
    text = re.sub(r"(?s)<!--.*?-->", "", text)
    text = re.sub(r"`[^`\n]*`", "X", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def docstrings(tree: ast.AST) -> list[tuple[str, int, str]]:
    """Return (kind, line, text) of each docstring, attribute docstrings included."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is not None:
            found.append((type(node).__name__, node.body[0].lineno, text))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for before, after in itertools.pairwise(body) if isinstance(body, list) else ():
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if is_text and isinstance(after.value.value, str) and isinstance(before, ast.Assign | ast.AnnAssign):
                found.append(("Attribute", after.lineno, after.value.value))
    return found


def prose_of_python(source: str) -> tuple[str, list[int]]:
    """Return the docstrings and comments of a module as one text, and lines of bad docstring openings."""
    texts, headless = [], []
    for kind, line, text in docstrings(ast.parse(source)):
        if HEADLESS.match(text) and kind != "Attribute":
            headless.append(line)
        texts.append(text)
    previous = -2
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(
            ("#!", "# ruff", "# type:", "# noqa", "# fmt")
        ):
            comment = token.string.lstrip("#: ").strip()
            if token.start[0] == previous + 1 and texts:
                texts[-1] += " " + comment
            else:
                texts.append(comment)
            previous = token.start[0]
    prose = "\n\n".join(re.sub(r"`[^`]*`", "X", re.sub(r"(?m)^ *(>>>|\.\.\.).*$", "", text)) for text in texts)
    return prose, headless


def turns(prose: str) -> list[tuple[str, str]]:
    """Return (name of the turn, the words) of every finding."""
    return [
        (name, " ".join(match.group(0).split()))
        for name, pattern in PATTERNS.items()
        for match in pattern.finditer(re.sub(r"[ \t]*\n[ \t]*(?=\S)", " ", prose) if name != "noun clause" else prose)
    ]


def rate(prose: str) -> tuple[float, int]:
    """Return findings per 1,000 words, and the number of words."""
    words = len(WORD.findall(prose))
    return 1000 * len(turns(prose)) / max(words, 1), words


def main(arguments: list[str]) -> int:
    """Check the files, or the whole repository; return the exit code."""
    if arguments:
        for name in arguments:
            text = Path(name).read_text(encoding="utf-8")
            prose, headless = prose_of_python(text) if name.endswith(".py") else (prose_of_markdown(text), [])
            print(f"{rate(prose)[0]:5.1f} per 1,000 words  {name}")
            for line in headless:
                print(f"       line {line}: the docstring starts with a question word")
            for turn, words in turns(prose):
                print(f"       {turn}: {words}")
        return 0
    failed = False
    documents = sorted({path for pattern in DOCUMENTS for path in ROOT.glob(pattern) if ".venv" not in str(path)})
    for path in documents:
        found, words = rate(prose_of_markdown(path.read_text(encoding="utf-8")))
        if found > LIMIT and found * words > 1000:  # a single finding never fails a document
            failed = True
            print(f"{path.relative_to(ROOT)}: {found:.1f} per 1,000 words, at most {LIMIT:.0f} are allowed")
    for package in PACKAGES:
        prose = []
        for path in sorted((ROOT / package).rglob("*.py")):
            text, headless = prose_of_python(path.read_text(encoding="utf-8"))
            prose.append(text)
            for line in headless if package != "benchmarks" else ():
                failed = True
                print(f"{path.relative_to(ROOT)}:{line}: the docstring starts with a question word")
        found, words = rate("\n\n".join(prose))
        print(f"{package}: {found:.1f} per 1,000 words of docstrings and comments ({words:,} words)")
        if found > LIMIT:
            failed = True
            print(f"{package}: at most {LIMIT:.0f} are allowed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
