"""The contenders of the suite, one file a peer: each imports its peer, and is itself imported only where asked for."""
