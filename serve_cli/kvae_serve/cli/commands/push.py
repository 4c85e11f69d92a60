"""The command `kvae push`."""

from __future__ import annotations

import sys

import click

from kvae_serve.cli import options
from kvae_serve.errors import RequestError, VerificationError, printable


@click.command(epilog="Example: kvae push digits hf://owner/digits --license mit --dry-run")
@click.argument("folder")
@click.argument("address")
@click.option(
    "--license", "license_id", metavar="ID", help="License, as the hub lists them: mit, apache-2.0, cc-by-4.0, ..."
)
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="Branch to upload to; it is created if necessary.  [default: main]")
@click.option("--dry-run", is_flag=True, help="Show the files and the metadata of the card, and upload nothing.")
@options.as_json
def push(
    folder: str, address: str, license_id: str | None, private: bool, revision: str | None, dry_run: bool, as_json: bool
) -> None:
    """Verify an exported model and upload it to the Hugging Face Hub.

    FOLDER is a folder that `kvae export` wrote, ADDRESS is hf://owner/repo or hf://owner/repo/folder. The private token
    is that of huggingface_hub: HF_TOKEN, or `hf auth login`.
    """
    from kvae_serve.hub import upload
    from kvae_serve.hub.address import SCHEME, parse
    from kvae_serve.model import load

    target = parse(address)
    if folder.startswith(SCHEME):
        raise RequestError(f"{printable(folder, 60)} is an address; expected a folder. `kvae pull` downloads it.")
    if revision is not None:
        if target.revision not in ("main", revision):
            raise RequestError(f"{target} and --revision {printable(revision, 40)} name two branches. Leave one out.")
        target = target._replace(revision=revision)
    if target.is_pinned:
        raise RequestError(f"{target.revision} is a commit, which cannot change. Give a branch.")
    if license_id is None:
        if not sys.stdin.isatty():
            raise RequestError("The license of the model is missing. Give --license, such as --license mit.")
        license_id = click.prompt("License of the model (mit, apache-2.0, cc-by-4.0, ...)", err=True)
    model = load(folder)
    if dry_run:
        content = upload.files(model, license_id)
        card = upload.front_matter(model, license_id)
        if as_json:
            sizes = {name: len(data) for name, data in content.items()}
            options.echo_json({"address": str(target), "files": sizes, "front_matter": card})
            return
        click.echo("\n".join(f"{len(data):>12,}  {target.file(name)}" for name, data in content.items()))
        click.echo(f"\n{card}", nl=False)
        return
    if failed := [check for check in model.verify() if not check.ok]:
        raise VerificationError(
            f"{printable(failed[0].output, 40)} of {failed[0].graph}.onnx differs from its reference. Nothing was "
            "uploaded; `kvae verify` shows the differences."
        )
    pinned = upload.push(model, target, license_id, private=private)
    if as_json:
        options.echo_json({"address": str(pinned)})
    else:
        click.echo(str(pinned))
