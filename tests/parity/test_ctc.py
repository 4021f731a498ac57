"""CTC's loss and its gradient by the logits against PyTorch's and optax's, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxseq.structured import ctc

pytestmark = pytest.mark.usefixtures("x64")

T, B, V, L = 30, 8, 6, 9
GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(0, 2, (T, B, V))
LABELS = GENERATOR.integers(1, V, (L, B))
FRAMES = np.array([30, 25, 1, 12, 30, 9, 20, 3])
LENGTHS = np.array([9, 4, 0, 6, 0, 1, 2, 9])  # the last has too few frames
MASK, LABEL_MASK = np.arange(T)[:, None] < FRAMES, np.arange(L)[:, None] < LENGTHS
WEIGHTS = GENERATOR.normal(0, 1, B)


@jax.jit
def ours(logits):
    def total(logits):
        losses = ctc.loss(jax.nn.log_softmax(logits), LABELS, mask=MASK, label_mask=LABEL_MASK)
        return jnp.sum(WEIGHTS * jnp.where(jnp.isinf(losses), 0, losses)), losses

    (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(logits)
    return losses, gradient


def test_pytorch():
    logits = torch.tensor(LOGITS, requires_grad=True)
    arguments = torch.tensor(LABELS.T), torch.tensor(FRAMES), torch.tensor(LENGTHS)
    log_probs = torch.log_softmax(logits, -1)
    want = torch.nn.functional.ctc_loss(log_probs, *arguments, reduction="none")
    zeroed = torch.nn.functional.ctc_loss(log_probs, *arguments, reduction="none", zero_infinity=True)
    (zeroed * torch.tensor(WEIGHTS)).sum().backward()
    assert logits.grad is not None
    losses, gradient = ours(LOGITS)
    np.testing.assert_allclose(losses, want.detach().numpy(), rtol=1e-10)
    assert np.isinf(losses).tolist() == [False] * 7 + [True]
    np.testing.assert_allclose(gradient, logits.grad.numpy(), atol=1e-10)


def test_optax():
    """But for the row that cannot be, of which optax says 1e5."""

    @jax.jit
    def theirs(logits):
        def total(logits):
            paddings = (1.0 - MASK.T, LABELS.T, 1.0 - LABEL_MASK.T)
            losses = optax.ctc_loss(jnp.swapaxes(logits, 0, 1), *paddings)
            return jnp.sum((WEIGHTS * losses)[:-1]), losses

        (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(logits)
        return losses, gradient

    (losses, gradient), (want, d_want) = ours(LOGITS), theirs(LOGITS)
    np.testing.assert_allclose(losses[:-1], want[:-1], rtol=1e-10)
    np.testing.assert_allclose(gradient, d_want, atol=1e-10)
