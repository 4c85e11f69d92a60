"""HTML report of an evaluation: results, charts and pictures on one offline page.

The page contains no script and loads nothing. Styles are inline, pictures and charts are `data:` addresses. The same
inputs give the same bytes. Needs Jinja2 and matplotlib (extra `evaluate`).

Example:
    ```python
    results = model.evaluate(x, {"label": label})
    page = kvae.report.render(model, results, x, {"label": label})
    Path("report.html").write_text(page, encoding="utf-8")
    ```
"""

from kvae.report.history import read_history
from kvae.report.labels import Labels, read_labels
from kvae.report.page import render, require

__all__ = ["Labels", "read_history", "read_labels", "render", "require"]
