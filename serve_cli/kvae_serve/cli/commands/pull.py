"""The command `kvae pull`."""

from __future__ import annotations

import os
import shutil

import click

from kvae_serve.cli import options


@click.command(epilog="Example: kvae pull hf://owner/digits -o digits")
@click.argument("address")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder to write the model to.")
@options.force
@options.as_json
def pull(address: str, output: str, force: bool, as_json: bool) -> None:
    """Download a model from the Hugging Face Hub into a folder.

    ADDRESS is hf://owner/repo, with @revision or /folder at the end if needed. Only graphs and config.json are
    downloaded, and all of them are checked. The private token is that of huggingface_hub: HF_TOKEN, or `hf auth login`.
    """
    from kvae_serve.hub.download import fetch
    from kvae_serve.runtime.session import mebibytes
    from kvae_serve.sealed.file import MAX_BYTES
    from kvae_serve.writers import atomic

    atomic.check_target(output, force)
    folder, pinned = fetch(address, mebibytes("KVAE_MAX_FILE") or MAX_BYTES)
    with atomic.new_folder(output, force) as new:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208
            if name == "config.json" or name.endswith(".onnx"):
                shutil.copyfile(os.path.join(folder, name), os.path.join(new, name))  # noqa: PTH118
    if as_json:
        options.echo_json({"address": str(pinned), "output": output})
    else:
        click.echo(str(pinned))
