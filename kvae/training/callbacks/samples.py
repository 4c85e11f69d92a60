"""Callback that draws samples during training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kvae.exporting import pictures
from kvae.training.callbacks.progress import print_line
from kvae_serve.errors import OutputError
from kvae_serve.writers import atomic


class SaveSamples(keras.callbacks.Callback):
    """Write a picture of samples every few epochs, such as `epoch-0010.png`. All pictures are of the same draws.

    z has the same noise and the same conditions in each picture, so the pictures show how the decoder changes. Other
    data than images and sequences are not drawn, and a line is printed.

    Args:
        folder: Folder of the pictures, which is created.
        every: Number of epochs between two pictures.
        model_to_draw: Function that returns the model to draw from, by default the model that trains.

    Example:
        >>> x = np.zeros((8, 4, 4, 1), "uint8")
        >>> model = kvae.VAE.dense((4, 4, 1), latent_dim=2, hidden=(5,))
        >>> model.compile("adam")
        >>> _ = model.fit(x, epochs=4, verbose=0, callbacks=[kvae.callbacks.SaveSamples(Path("samples"), every=2)])
        >>> sorted(path.name for path in Path("samples").iterdir())
        ['epoch-0002.png', 'epoch-0004.png']
    """

    def __init__(self, folder: Path, every: int = 1, model_to_draw: Callable[[], keras.Model] | None = None):
        super().__init__()
        self._folder, self._every = Path(folder), every
        self._model_to_draw = model_to_draw or (lambda: self.model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Create the folder, or print that data of this kind are not drawn."""
        if not pictures.exist(self.model):
            print_line(f"There are no pictures of {self.model.data.kind} data, so no samples are drawn.")
            return
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot create {self._folder}: {error.strerror or error}.") from error

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a picture if one is due."""
        if (epoch + 1) % self._every or not pictures.exist(self.model):
            return
        if hasattr(self.model, "jax_state_sync"):  # within a callback JAX has newer values than the variables
            self.model.jax_state_sync()
        picture = pictures.samples(self._model_to_draw(), (f"epoch {epoch + 1}",))
        assert picture is not None
        atomic.write_whole(self._folder / f"epoch-{epoch + 1:04d}.png", picture, force=True)
