"""Models on the Hugging Face Hub: addresses, download, upload. Needs the extra `hub`."""
