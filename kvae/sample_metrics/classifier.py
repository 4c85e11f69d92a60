"""The judge of samples: a classifier as an ONNX file, kept by kvae or given by the user.

What a file that a user gives must be:

- one input, images in data units (pixels 0 to 255, as the model has them; put any scaling into the graph), float32,
  float64 or uint8, `[batch, height, width, channels]`, `[batch, channels, height, width]`, for one channel also
  `[batch, height, width]`, or flat `[batch, values]`; the first of these that fits counts;
- outputs by name: `features` and `logits`. Where these names are not there, the output with as many columns as there
  are classes is the logits (probabilities will do, only the largest counts) and the other one the features; a single
  output is the features, and the logits as well where its columns are as many as the classes. Features of more than two
  axes are flattened.

Such a file is run by ONNX Runtime as it is: take it from where you trust it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, printable
from kvae_serve.runtime import onnxruntime

MAX_BYTES = 2**31
BATCH_SIZE = 256
_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}


class Judgement(NamedTuple):
    """What a classifier says of images: `features` `[num, dim]`, `label` int64 `[num]` or None where it names none."""

    features: np.ndarray
    label: np.ndarray | None


class Classifier:
    """Features and labels of images `[num, *shape]` in data units.

    Args:
        data: bytes of an ONNX file, by the rule above.
        source: its path, for messages.
        shape: of the images: height, width, channels.
        num_classes: how many the labels have; 0 where there are no labels.

    Raises:
        ModelFileError: ONNX Runtime does not open it, or its inputs and outputs do not fit the rule.
    """

    def __init__(self, data: bytes, source: str, shape: Sequence[int], num_classes: int) -> None:
        self.source, self.shape, self.num_classes = source, tuple(shape), num_classes
        #: The first 12 hex digits of the file's SHA-256: figures by two different judges cannot be compared.
        self.digest = hashlib.sha256(data).hexdigest()[:12]
        self._name = printable(source)
        self._session = _open(data, self._name)
        self._input, self._form, self._batch = self._find_input()
        self._features, self._logits = self._find_outputs()

    @property
    def names_labels(self) -> bool:
        """Whether it has logits for the classes."""
        return self._logits is not None

    def __call__(self, x: Any) -> Judgement:
        """Judge images; `Judgement` with a row for each."""
        if tuple(x.shape[1:]) != self.shape or not len(x):
            raise InputDataError(f"{self._name} judges images {list(self.shape)}, got {list(x.shape[1:])}.")
        size = self._batch or BATCH_SIZE
        features, labels = [], []
        for start in range(0, len(x), size):
            some = np.asarray(x[start : start + size])
            found = self._run(some, size if self._batch else len(some))
            features.append(found[0].reshape(len(found[0]), -1)[: len(some)])
            if self._logits is not None:
                labels.append(found[1][: len(some)].argmax(axis=1).astype(np.int64))
        return Judgement(np.concatenate(features), np.concatenate(labels) if labels else None)

    def _run(self, x: np.ndarray, num: int) -> list[np.ndarray]:
        if len(x) < num:  # a file for batches of one size alone
            x = np.concatenate([x, np.repeat(x[-1:], num - len(x), axis=0)])
        if self._form == "channels first":
            x = x.transpose(0, 3, 1, 2)
        dtype = _DTYPES[self._input.type]
        x = np.clip(np.rint(x), 0, 255).astype(dtype) if dtype is np.uint8 else x.astype(dtype)
        if self._form == "flat":
            x = x.reshape(num, -1)
        elif self._form == "without channels":
            x = x.reshape(num, *self.shape[:2])
        names = [self._features] if self._logits is None else [self._features, self._logits]
        try:
            found = self._session.run(names, {self._input.name: np.ascontiguousarray(x)})
        except Exception as error:  # what ONNX Runtime raises has no base class of its own
            raise ModelFileError(f"{self._name} fails when ONNX Runtime runs it ({type(error).__name__}).") from error
        for name, value in zip(names, found, strict=True):
            shape: Sequence[int] = getattr(value, "shape", ())
            if len(shape) < 2 or shape[0] != num or value.dtype.kind != "f":
                raise ModelFileError(
                    f"{self._name} gives {printable(name, 60)} {list(shape)} for {num} images, "
                    f"expected [{num}, columns]."
                )
            if not np.isfinite(value).all():
                raise ModelFileError(f"{self._name} gives {printable(name, 60)} with NaN or infinite values.")
        if self._logits is not None and found[1].shape[1:] != (self.num_classes,):
            raise ModelFileError(
                f"{self._name} gives logits {list(found[1].shape[1:])}, the labels have {self.num_classes} classes."
            )
        return found

    def _find_input(self) -> tuple[Any, str, int]:
        """The input, the form in which it takes images, and its size of batches where that is fixed."""
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES:
            found = ", ".join(f"{printable(each.name, 40)} {each.type}" for each in inputs[:4]) or "no input"
            raise ModelFileError(
                f"{self._name} takes {found}; expected one input, images as float32, float64 or uint8."
            )
        height, width, channels = self.shape
        forms = {"channels last": self.shape, "channels first": (channels, height, width)}
        if channels == 1:
            forms["without channels"] = (height, width)
        forms["flat"] = (math.prod(self.shape),)
        batch, *rest = inputs[0].shape or [None]
        for form, sizes in forms.items():
            if len(rest) == len(sizes) and all(
                not isinstance(size, int) or size == want for size, want in zip(rest, sizes, strict=True)
            ):
                return inputs[0], form, batch if isinstance(batch, int) else 0
        raise ModelFileError(
            f"{self._name} takes images {printable(inputs[0].shape, 80)}, those here are "
            f"['batch', {height}, {width}, {channels}]. Give a classifier of such images."
        )

    def _find_outputs(self) -> tuple[str, str | None]:
        """Names of the features and of the logits, by the rule that the module states."""
        outputs = {each.name: each.shape or [] for each in self._session.get_outputs()}
        named = "features" in outputs
        if named and "logits" in outputs:
            if (
                self.num_classes
                and outputs["logits"][1:] != [self.num_classes]
                and isinstance(outputs["logits"][-1], int)
            ):
                raise ModelFileError(
                    f"{self._name} has logits {outputs['logits'][1:]}, the labels have {self.num_classes} classes."
                )
            return "features", "logits" if self.num_classes else None
        fitting = [name for name, shape in outputs.items() if self.num_classes and shape[1:] == [self.num_classes]]
        if named:
            fitting = [name for name in fitting if name != "features"]
            return "features", fitting[0] if len(fitting) == 1 else None
        if len(outputs) == 1:
            only = next(iter(outputs))
            return only, only if fitting else None
        if len(outputs) == 2 and len(fitting) == 1:
            return next(name for name in outputs if name != fitting[0]), fitting[0]
        found = ", ".join(f"{printable(name, 40)} {printable(shape, 40)}" for name, shape in list(outputs.items())[:6])
        raise ModelFileError(
            f"{self._name} gives {found}, of which it is not clear what is what. Name its outputs features and logits."
        )


def read(path: str | Path, shape: Sequence[int], num_classes: int) -> Classifier:
    """Open the classifier that a user gives."""
    path = Path(path)
    try:
        if not path.is_file():
            raise ModelFileError(
                f"{printable(path)} is no file. Give the classifier as .onnx, or a folder to keep one in."
            )
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"{printable(path)} has more than the {MAX_BYTES} bytes that are read at most.")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{printable(path)} cannot be read: {error.strerror}.") from error
    return Classifier(data, str(path), shape, num_classes)


def _open(data: bytes, name: str) -> Any:
    ort = onnxruntime.onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and reported by us
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its message quotes raw bytes of the file: never echoed
        raise ModelFileError(f"{name} is no classifier that ONNX Runtime opens ({type(error).__name__}).") from error
