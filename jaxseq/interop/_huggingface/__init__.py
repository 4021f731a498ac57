"""The models of `interop.huggingface`, a family a file, on one description of models and one of arrays."""
