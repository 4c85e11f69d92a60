"""`kvae verify`: the golden check, on the machine that it runs on."""

from __future__ import annotations

import math

import click

from kvae_serve.cli import options
from kvae_serve.errors import VerificationError, printable


@click.command(epilog="Example: kvae verify -m mnist")
@options.model
@options.threads
@options.provider
@options.as_json
def verify(model: str, threads: int, provider: str, as_json: bool) -> None:
    """Check that a model gives here what Keras gave where it was made.

    Leaves with 6 where it does not; --json then still prints which output of which graph differs, and by how much.
    """
    from kvae_serve.model import load

    loaded = load(model, threads=threads, provider=provider)
    checks = loaded.verify()
    if as_json:
        from kvae_serve.runtime import onnxruntime

        options.echo_json(
            {
                "ok": all(check.ok for check in checks),
                "model": loaded.manifest.name,
                "model_id": loaded.manifest.model_id,
                "onnxruntime": onnxruntime.onnxruntime().__version__,
                "provider": provider,
                "checks": [
                    check._asdict() | {"difference": check.difference if math.isfinite(check.difference) else None}
                    for check in checks
                ],
            }
        )
    else:
        for check in checks:
            click.echo(
                f"{check.graph:<12}{printable(check.output, 40):<16}{'ok    ' if check.ok else 'FAILED'}  "
                f"difference {check.difference:.3g}, allowed {check.allowed:.3g}"
            )
    failed = [check for check in checks if not check.ok]
    if failed:
        # By how much compared with what is allowed, and without dividing by an allowance of 0.
        worst = max(failed, key=lambda check: check.difference - check.allowed)
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise VerificationError(
            f"{printable(worst.output, 30)} of {worst.graph}.onnx{more} differs from its golden values by "
            f"{worst.difference:.3g}, allowed {worst.allowed:.3g}. Export it again, or try another onnxruntime."
        )
