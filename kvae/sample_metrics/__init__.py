"""Sample quality: fidelity, diversity and label consistency of samples, as functions of arrays and for whole models.

| Input | Function |
|---|---|
| table rows | `column_shapes`, `pair_trends`, `association_matrix`, `valid_cells`, `lost_classes`, `two_sample_auc`, |
| | `downstream_score`, `closest_distances`, `exact_copies` |
| labels | `label_consistency` |
| images and labels | `classification_accuracy_score`, `within_class_spread` |
| points `[num, dim]`, such as features | `frechet_distance`, `precision_recall_density_coverage`, `squared_mmd` |

`two_sample_auc`, `downstream_score` and `closest_distances` need scikit-learn (extra `evaluate`), the others numpy.
`figures` computes all figures of images for a model, each with the same figure of real images as its baseline;
`table_figures` does so for table rows. `measure` and `measure_table` do this from paths, like
`kvae evaluate --sample-metrics`.

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
from kvae.sample_metrics.tables.associations import association_matrix, pair_trends
from kvae.sample_metrics.tables.comparison import table_figures
from kvae.sample_metrics.tables.downstream import Downstream, downstream_score
from kvae.sample_metrics.tables.measure import MeasuredTable, measure_table
from kvae.sample_metrics.tables.nearest import closest_distances, exact_copies
from kvae.sample_metrics.tables.shapes import column_shapes
from kvae.sample_metrics.tables.two_sample import TwoSample, two_sample_auc
from kvae.sample_metrics.tables.validity import lost_classes, valid_cells

__all__ = [
    "Consistency",
    "Downstream",
    "Manifolds",
    "Measured",
    "MeasuredTable",
    "TwoSample",
    "association_matrix",
    "classification_accuracy_score",
    "closest_distances",
    "column_shapes",
    "downstream_score",
    "exact_copies",
    "figures",
    "frechet_distance",
    "label_consistency",
    "lost_classes",
    "measure",
    "measure_table",
    "pair_trends",
    "precision_recall_density_coverage",
    "squared_mmd",
    "table_figures",
    "two_sample_auc",
    "valid_cells",
    "within_class_spread",
]
