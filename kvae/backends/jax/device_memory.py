"""The memory of JAX's device, for data that lie there: `kvae.dataloaders.device`."""

import jax
import jax.numpy as jnp

#: Arrays in tuples and dicts to the same on the device.
put = jax.device_put


def numbers(rows):
    """Numbers of rows where a compiled step wants them: as they are, for it takes many at a time."""
    return rows


def take(columns, rows):
    """Those rows of all columns, inside a compiled step."""
    return jax.tree.map(lambda column: jnp.take(column, rows, axis=0), columns)


#: `take`, compiled by itself.
batch = jax.jit(take)


def free():
    """Bytes that an accelerator's memory has left; 0 where the device is none."""
    device = jax.devices()[0]
    if device.platform == "cpu" or not (memory := device.memory_stats()):
        return 0
    return memory["bytes_limit"] - memory["bytes_in_use"]
