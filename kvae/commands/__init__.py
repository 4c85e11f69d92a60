"""Click commands of the workstation, one per file; `kvae.__main__` lists them."""
