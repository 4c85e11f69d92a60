"""How good and how varied a model's samples are, as pure functions of arrays, and all of them for a model at once.

Of labels: `label_consistency`. Of images and labels: `classification_accuracy_score`, `within_class_spread`. Of points
`[num, dim]`, mostly features of a classifier: `frechet_distance`, `precision_recall_density_coverage`, `squared_mmd`.
They need numpy alone and take anyone's arrays. `figures` makes them all for a model, each beside the same figure of
real images; `measure` does so from paths, as `kvae evaluate --sample-metrics` does.

Figures in features depend on the classifier, on the number of images and on the pixels (means of p(x given z) are
smoother than draws from it and than data): compare what was measured alike, and look at the floor.
"""

from kvae.sample_metrics.accuracy_score import classification_accuracy_score
from kvae.sample_metrics.consistency import Consistency, label_consistency
from kvae.sample_metrics.figures import figures
from kvae.sample_metrics.frechet import frechet_distance
from kvae.sample_metrics.manifolds import Manifolds, precision_recall_density_coverage
from kvae.sample_metrics.measure import Measured, measure
from kvae.sample_metrics.mmd import squared_mmd
from kvae.sample_metrics.spread import within_class_spread

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
