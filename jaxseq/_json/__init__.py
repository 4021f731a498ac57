"""Converts nets, trees and modules to JSON and back by tables of names. Nothing that is read is run or imported.

net       ["lstm", [8], {"peephole": "new"}]                     the factory, positional arguments, keywords
params    {"LstmParams": {"w_x": "0.w_x", ...}}                  a NamedTuple of jaxseq; leaves are the names of arrays
module    ["SequenceTagger", {"cell": {"net": [...]}, ...}]      the class, and all arguments but `rngs`
value     {"function": "jax.nn.relu"}, {"net": [...]}            a value that JSON does not have, by its kind
"""
