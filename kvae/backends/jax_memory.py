"""The memory of JAX's device, for data that lie there: `kvae.data.resident`."""

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


def fits(columns):
    """Whether arrays take no more than half of what an accelerator's memory has free; the CPU is no accelerator."""
    device, size = jax.devices()[0], sum(column.nbytes for column in jax.tree.leaves(columns))
    if device.platform == "cpu" or not (memory := device.memory_stats()):
        return False
    return 2 * size <= memory["bytes_limit"] - memory["bytes_in_use"]
