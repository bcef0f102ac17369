"""smollm2-reader: SmolLM2 taught to answer questions over documents, or to say that it does not know."""
