"""Import of huggingface_hub, and its errors as one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kvae_serve.errors import KvaeError, MissingExtraError, ModelFileError, printable
from kvae_serve.hub.address import Address


def huggingface_hub() -> Any:
    """Import the library, without telemetry.

    Raises:
        MissingExtraError: The library is not installed.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Xet transfers files outside Python, where their size cannot be limited.
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "Addresses that begin with hf:// need huggingface_hub, which is not installed. "
            "Install it with: pip install 'kvae-onnx[hub]'"
        ) from error
    huggingface_hub.logging.set_verbosity_error()
    return huggingface_hub


def api() -> Any:
    """Return a client of the hub at `HF_ENDPOINT`."""
    return huggingface_hub().HfApi(library_name="kvae")


@contextmanager
def translated(address: Address, error_class: type[KvaeError] = ModelFileError) -> Iterator[None]:
    """Raise the errors of the hub and of the network as one error of kvae.

    Args:
        address: The address in use.
        error_class: Class of the error.
    """
    errors = huggingface_hub().errors
    try:
        yield
    except KvaeError:
        raise
    except errors.GatedRepoError as error:
        reason, advice = "its owner grants access on request", "Ask on its page, then set HF_TOKEN"
        raise _error(error_class, address, reason, advice) from error
    except errors.RevisionNotFoundError as error:
        raise _error(error_class, address, f"revision {address.revision} does not exist", "Check it") from error
    except errors.RepositoryNotFoundError as error:
        reason = "the repository does not exist or is private"
        raise _error(error_class, address, reason, "Check the name, or set HF_TOKEN") from error
    except errors.EntryNotFoundError as error:
        raise _error(error_class, address, "a file of the model does not exist", "Check the address") from error
    except errors.OfflineModeIsEnabled as error:
        reason = "HF_HUB_OFFLINE is set, and the model is not in the cache"
        raise _error(error_class, address, reason, "Unset it once") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        remedies = {401: "Set HF_TOKEN", 403: "Check the rights of HF_TOKEN", 429: "Wait, then try again"}
        remedy = remedies.get(status, "Try again later")
        raise _error(error_class, address, f"the hub answered {status}", remedy) from error
    except Exception as error:  # of the HTTP package, which differs between versions of huggingface_hub
        raise _error(error_class, address, f"{type(error).__name__}: {error}", "Try again later") from error


def _error(error_class: type[KvaeError], address: Address, reason: str, advice: str) -> KvaeError:
    return error_class(f"{printable(address, 60)}: {printable(reason, 80)}. {advice}.")
