"""Training objectives: the ELBO and its relatives, and schedules of their weights."""

from kvae.objectives import schedules
from kvae.objectives.objectives import Capacity, Elbo, FreeBits, ImportanceWeighted, Objective, TotalCorrelation

__all__ = ["Capacity", "Elbo", "FreeBits", "ImportanceWeighted", "Objective", "TotalCorrelation", "schedules"]
