"""Writers of output files, one module per format. Each writes a `RowStream` chunk by chunk, in constant memory."""
