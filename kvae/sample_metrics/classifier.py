"""Classifiers in ONNX files, trained by kvae or supplied by the user.

Requirements for a user's file:

- One input: images in data units (scaling belongs in the graph), float32, float64 or uint8. The first layout that fits
  is used: `[batch, height, width, channels]`, `[batch, channels, height, width]`, for one channel
  `[batch, height, width]`, or flat `[batch, values]`.
- Outputs named `features` and `logits`. With other names, the output with one column per class is the logits
  (probabilities work as well) and the other one the features. A single output is the features, and also the logits if
  it has one column per class. Features with more than two axes are flattened.

ONNX Runtime runs such a file without kvae's checks. Use files from sources that you trust.
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


class Prediction(NamedTuple):
    """Output of a classifier: `features` `[num, dim]`, and `label` int64 `[num]` or None without logits."""

    features: np.ndarray
    label: np.ndarray | None


class Classifier:
    """Features and labels of images `[num, *shape]` in data units.

    Args:
        data: Bytes of an ONNX file that meets the requirements above.
        source: Path of the file, for messages.
        shape: Shape of an image: height, width, channels.
        num_classes: Number of classes; 0 without labels.

    Raises:
        ModelFileError: ONNX Runtime rejects the file, or its inputs or outputs do not meet the requirements.
    """

    def __init__(self, data: bytes, source: str, shape: Sequence[int], num_classes: int) -> None:
        self.source, self.shape, self.num_classes = source, tuple(shape), num_classes
        #: First 12 hex digits of the file's SHA-256. Results of two classifiers are not comparable.
        self.digest = hashlib.sha256(data).hexdigest()[:12]
        self._name = printable(source)
        self._session = _open(data, self._name)
        self._input, self._form, self._batch = self._find_input()
        self._features, self._logits = self._find_outputs()

    @property
    def names_labels(self) -> bool:
        """True if the file has logits for the classes."""
        return self._logits is not None

    def __call__(self, x: Any) -> Prediction:
        """Return the `Prediction` of images `[num, *shape]` in data units."""
        if tuple(x.shape[1:]) != self.shape or not len(x):
            raise InputDataError(f"{self._name} expects images {list(self.shape)}, got {list(x.shape[1:])}.")
        size = self._batch or BATCH_SIZE
        features, labels = [], []
        for start in range(0, len(x), size):
            part = np.asarray(x[start : start + size])
            outputs = self._run(part, size if self._batch else len(part))
            features.append(outputs[0].reshape(len(outputs[0]), -1)[: len(part)])
            if self._logits is not None:
                labels.append(outputs[1][: len(part)].argmax(axis=1).astype(np.int64))
        return Prediction(np.concatenate(features), np.concatenate(labels) if labels else None)

    def _run(self, x: np.ndarray, num: int) -> list[np.ndarray]:
        if len(x) < num:  # the file has a fixed batch size
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
            outputs = self._session.run(names, {self._input.name: np.ascontiguousarray(x)})
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelFileError(f"{self._name} fails when ONNX Runtime runs it ({type(error).__name__}).") from error
        for name, value in zip(names, outputs, strict=True):
            shape: Sequence[int] = getattr(value, "shape", ())
            if len(shape) < 2 or shape[0] != num or value.dtype.kind != "f":
                raise ModelFileError(
                    f"{self._name} returns {printable(name, 60)} {list(shape)} for {num} images; "
                    f"expected [{num}, columns]."
                )
            if not np.isfinite(value).all():
                raise ModelFileError(f"{self._name} returns NaN or infinite values in {printable(name, 60)}.")
        if self._logits is not None and outputs[1].shape[1:] != (self.num_classes,):
            raise ModelFileError(
                f"{self._name} returns logits {list(outputs[1].shape[1:])}; expected {self.num_classes} classes."
            )
        return outputs

    def _find_input(self) -> tuple[Any, str, int]:
        """Return the input, its image layout, and its batch size if that is fixed (else 0)."""
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES:
            listed = ", ".join(f"{printable(each.name, 40)} {each.type}" for each in inputs[:4]) or "nothing"
            raise ModelFileError(
                f"{self._name} has the inputs {listed}; expected one input for images, float32, float64 or uint8."
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
            f"{self._name} expects images {printable(inputs[0].shape, 80)}, but these are "
            f"['batch', {height}, {width}, {channels}]. Give a classifier for them."
        )

    def _find_outputs(self) -> tuple[str, str | None]:
        """Return the names of the features and of the logits (or None)."""
        outputs = {each.name: each.shape or [] for each in self._session.get_outputs()}
        named = "features" in outputs
        if named and "logits" in outputs:
            if (
                self.num_classes
                and outputs["logits"][1:] != [self.num_classes]
                and isinstance(outputs["logits"][-1], int)
            ):
                raise ModelFileError(
                    f"{self._name} has logits {outputs['logits'][1:]}; expected {self.num_classes} classes."
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
        listed = ", ".join(f"{printable(name, 40)} {printable(shape, 40)}" for name, shape in list(outputs.items())[:6])
        raise ModelFileError(
            f"{self._name} has the outputs {listed}, which are ambiguous. Name them features and logits."
        )


def read(path: str | Path, shape: Sequence[int], num_classes: int) -> Classifier:
    """Open the classifier file of a user."""
    path = Path(path)
    try:
        if not path.is_file():
            raise ModelFileError(f"{printable(path)} is not a file. Give a classifier as .onnx, or a cache folder.")
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"{printable(path)} has more than {MAX_BYTES} bytes, the limit.")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{printable(path)} cannot be read: {error.strerror}.") from error
    return Classifier(data, str(path), shape, num_classes)


def _open(data: bytes, name: str) -> Any:
    ort = onnxruntime.onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised and reported by kvae
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # the message may quote raw bytes of the file
        raise ModelFileError(
            f"{name} is not a classifier that ONNX Runtime can open ({type(error).__name__})."
        ) from error
