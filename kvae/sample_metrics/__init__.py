"""Sample quality: fidelity, diversity and label consistency of samples, as functions of arrays and for whole models.

| Input | Function |
|---|---|
| labels | `label_consistency` |
| images and labels | `classification_accuracy_score`, `within_class_spread` |
| points `[num, dim]`, such as features | `frechet_distance`, `precision_recall_density_coverage`, `squared_mmd` |

These functions need only numpy. `figures` computes all of them for a model, each with the same figure of real images as
its baseline. `measure` does this from paths, like `kvae evaluate --sample-metrics`.

Figures in features depend on the classifier, on the number of images and on the pixels: means of p(x given z) are
smoother than draws and than data. Compare only figures that were measured in the same way, and read the baseline.
"""

from kvae.sample_metrics.accuracy_score import classification_accuracy_score
from kvae.sample_metrics.class_spread import within_class_spread
from kvae.sample_metrics.comparison import figures
from kvae.sample_metrics.consistency import Consistency, label_consistency
from kvae.sample_metrics.frechet import frechet_distance
from kvae.sample_metrics.manifolds import Manifolds, precision_recall_density_coverage
from kvae.sample_metrics.measure import Measured, measure
from kvae.sample_metrics.mmd import squared_mmd

__all__ = [
    "Consistency",
    "Manifolds",
    "Measured",
    "classification_accuracy_score",
    "figures",
    "frechet_distance",
    "label_consistency",
    "measure",
    "precision_recall_density_coverage",
    "squared_mmd",
    "within_class_spread",
]
