"""Network architectures implemented here, one per file; most end in global average pooling."""
