"""HTTP server of models: a JSON API, the explorer, and a description of the API. It needs the extra `serve`."""
