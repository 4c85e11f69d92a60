"""What people look at: the figures of an evaluation and the pictures that go with them, as one HTML page.

```python
document = model.evaluate(x, {"label": label})
Path("report.html").write_text(report.render(model, document, x, {"label": label}), encoding="utf-8")
```

The page opens from disk with no network and holds no script: styles are inline, pictures are `data:` addresses, charts
are SVG. The same inputs give the same bytes. Charts need matplotlib, of the extra `evaluate`.
"""

from kvae.report.history import read_history
from kvae.report.labels import Labels, read_labels
from kvae.report.render import render, require

__all__ = ["Labels", "read_history", "read_labels", "render", "require"]
