"""What XLA tells of a compiled program. It may tell nothing; on a CPU it does."""


def memory(compiled):
    """The bytes of its arguments, outputs and temporaries."""
    found = compiled.memory_analysis()
    assert found is not None
    return found


def text(compiled) -> str:
    """Its instructions."""
    found = compiled.as_text()
    assert found is not None
    return found
