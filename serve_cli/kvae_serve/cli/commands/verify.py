"""The command `kvae verify`."""

from __future__ import annotations

import math

import click

from kvae_serve.cli import options
from kvae_serve.errors import VerificationError, printable


@click.command(epilog="Example: kvae verify -m mnist")
@options.model
@options.as_json
@options.runtime_args(batch_size=False)
def verify(model: str, as_json: bool, runtime: options.RuntimeArgs) -> None:
    """Check that a model reproduces its reference outputs, computed by Keras before the export, on this machine.

    The exit code is 6 if it does not. --json then still prints which outputs differ, and by how much.
    """
    loaded = runtime.load(model)
    checks = loaded.verify()
    if as_json:
        from kvae_serve.runtime import onnxruntime

        options.echo_json(
            {
                "ok": all(check.ok for check in checks),
                "model": loaded.manifest.name,
                "model_id": loaded.manifest.model_id,
                "onnxruntime": onnxruntime.onnxruntime().__version__,
                "provider": runtime.provider,
                "checks": [
                    check._asdict() | {"difference": check.difference if math.isfinite(check.difference) else None}
                    for check in checks
                ],
            }
        )
    else:
        for check in checks:
            click.echo(
                f"{check.graph:<12}{printable(check.output, 40):<15} {'ok    ' if check.ok else 'FAILED'}  "
                f"difference {check.difference:.3g}, allowed {check.allowed:.3g}"
            )
    failed = [check for check in checks if not check.ok]
    if failed:
        # Difference rather than ratio, because the tolerance may be 0.
        worst = max(failed, key=lambda check: check.difference - check.allowed)
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise VerificationError(
            f"{printable(worst.output, 30)} of {worst.graph}.onnx{more} differs from its reference by "
            f"{worst.difference:.3g}; at most {worst.allowed:.3g} is allowed. Export the model again, or try another "
            "version of onnxruntime."
        )
