"""Output formats, one per module. Each writes a `RowStream` chunk by chunk, in constant memory."""
