"""One place where the parts of a model are made known to Keras' serialisation."""

import keras


def register(cls):
    """Class decorator: `keras.saving.load_model` finds the class with no custom objects once it is imported.

    Classes are known by area and name (`kvae>likelihoods.Categorical`), for two areas may use one word.
    """
    area = cls.__module__.split(".")[1]
    return keras.saving.register_keras_serializable(package="kvae", name=f"{area}.{cls.__name__}")(cls)
