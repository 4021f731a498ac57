"""Time loops on a CPU as machine code of their own, from a cell's equations, by LLVM."""
