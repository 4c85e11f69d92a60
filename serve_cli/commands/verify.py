"""`kvae verify`: the golden check, on the machine that it runs on."""

from __future__ import annotations

import math

import click

from serve_cli.commands import options
from serve_cli.errors import VerificationError


@click.command(epilog="Example: kvae verify -m mnist")
@options.model
@options.threads
@options.provider
@options.as_json
def verify(model: str, threads: int, provider: str, as_json: bool) -> None:
    """Check that a model gives here what Keras gave where it was made."""
    from serve_cli.model import load

    checks = load(model, threads=threads, provider=provider).verify()
    if as_json:
        options.echo_json(
            {
                "ok": all(check.ok for check in checks),
                "checks": [
                    check._asdict() | {"difference": check.difference if math.isfinite(check.difference) else None}
                    for check in checks
                ],
            }
        )
    else:
        for check in checks:
            click.echo(
                f"{check.graph:<12}{check.output:<16}{'ok    ' if check.ok else 'FAILED'}  "
                f"difference {check.difference:.3g}, allowed {check.allowed:.3g}"
            )
    failed = [f"{check.output} of {check.graph}.onnx" for check in checks if not check.ok]
    if failed:
        raise VerificationError(
            f"{', '.join(failed)} differs from its golden values. Do not trust this model here: export it again, "
            "or try another version of onnxruntime."
        )
