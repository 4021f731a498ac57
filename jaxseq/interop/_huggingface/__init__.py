"""The models of `interop.huggingface`, one file per family, described by `Model` for options and `Key` for arrays."""
