"""Registration of the package's classes with Keras serialization."""

import keras

# Names in `.keras` files of kvae 0.1, whose classes were replaced by those of Keras.
keras.saving.get_custom_objects()["kvae>initial.RandomNormal"] = keras.initializers.RandomNormal


def register(name):
    """Return a class decorator that registers a class with Keras as `kvae>NAME`.

    Saved `.keras` files contain this name, so it never changes, even if the class moves to another module.

    Args:
        name: area and class, such as `likelihoods.Categorical`. The area keeps two classes of the same name apart.
    """
    return keras.saving.register_keras_serializable(package="kvae", name=name)
