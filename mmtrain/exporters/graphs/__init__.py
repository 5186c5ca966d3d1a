"""Models as functions of tensors: what is written to a file, one module per kind of head."""
