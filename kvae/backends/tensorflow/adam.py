"""TensorFlow's fused kernel of Adam: a variable's update in one pass over memory."""

import keras
import tensorflow as tf


def update(adam, gradient, variable, learning_rate):
    """Update one variable in place; False where the kernel does not cover the case.

    Args:
        adam: a `keras.optimizers.Adam` that was built.
        gradient: of the variable.
        variable: the `keras.Variable`.
        learning_rate: of this step.
    """
    if adam.amsgrad or isinstance(gradient, tf.IndexedSlices):
        return False
    index, dtype = adam._get_variable_index(variable), variable.dtype
    step = tf.cast(adam.iterations + 1, dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(adam._momentums[index]),
        v=_handle(adam._velocities[index]),
        # As Keras has it: powers of the single-precision beta, whatever the precision of the variable.
        beta1_power=tf.pow(tf.cast(adam.beta_1, dtype), step),
        beta2_power=tf.pow(tf.cast(adam.beta_2, dtype), step),
        lr=tf.cast(learning_rate, dtype),
        beta1=tf.convert_to_tensor(adam.beta_1, dtype),
        beta2=tf.convert_to_tensor(adam.beta_2, dtype),
        epsilon=tf.convert_to_tensor(adam.epsilon, dtype),
        grad=tf.cast(gradient, dtype),
    )
    return True


def _handle(variable):
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
