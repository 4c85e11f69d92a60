"""Type aliases of public signatures."""

from typing import Any, TypeAlias

#: A tensor of the Keras backend, or a NumPy array where Keras accepts one.
Tensor: TypeAlias = Any

#: Shape of one example, without the batch axis.
Shape: TypeAlias = tuple[int, ...]
