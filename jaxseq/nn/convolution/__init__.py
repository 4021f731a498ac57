"""Convolutions over time."""

from jaxseq.nn.convolution._tcn import TCN as TCN
