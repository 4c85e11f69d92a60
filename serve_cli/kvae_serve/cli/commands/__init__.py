"""Click commands of `kvae_serve`, one per file."""
