"""Explorer: one HTML file in which a model runs in the browser, without a server or a network."""

from kvae_serve.explorer.page import Examples, Runtime, render, write

__all__ = ["Examples", "Runtime", "render", "write"]
