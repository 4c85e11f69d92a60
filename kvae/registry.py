"""One place where the parts of a model are made known to Keras' serialisation."""

import keras


def register(cls):
    """Class decorator: `keras.saving.load_model` finds the class with no custom objects once it is imported."""
    return keras.saving.register_keras_serializable(package="kvae")(cls)
