"""A trained network taken apart: initialisation and update, Section 6.

Under the trained pattern p the output is the sum of two parts,

  f_i(x) = sum_r a_{i,r} p_r <w_r(0), x>
         + sum_r a_{i,r} p_r <w_r(T) - w_r(0), x>,

a random one with strong cancellation and a signal that adds up.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from ossgd.paper import metrics, network
from ossgd.paper.types import Array, Dataset, Params, Split, matmul


def take_apart(
  params: Params, initial: Params, split: Split, *, ranks: tuple[int, ...]
) -> dict[str, jax.Array]:
  """What the parts of a trained network do alone, on the test set.

  With `ranks` given, an `extra` of `sweeps.sweep`.

  Args:
    params: trained, w (m, d) and a (k, m).
    initial: before training.
    split: the data.
    ranks: q, for `cut`.

  Returns:
    What `cut` returns; the singular values of w(0); of a network with the
    update for weights, the number of correct answers; of both parts under the
    trained pattern, that number, the root mean square of the output, and its
    `addition` in all outputs and in the label's own.
  """
  x, y = split.test
  update = params.w - initial.w
  cut_correct, cut_error = cut(params, initial, split.test, ranks=ranks)
  alone = network.logits(params._replace(w=update), x)
  measured = {
    'cut_correct': cut_correct,
    'cut_error': cut_error,
    'singular_values_initial': metrics.spectrum(initial.w),
    'update_network_correct': metrics.num_correct(alone, y),
  }
  pattern = network.pattern(params.w, x)
  for name, w in (('initial', initial.w), ('update', update)):
    h = network.preactivations(w, x)
    f = network.gated_logits(params.a, h, pattern)
    added = addition(params.a, h, pattern)
    own = jnp.take_along_axis(added, y[:, None], axis=1)
    measured |= {
      f'{name}_part_correct': metrics.num_correct(f, y),
      f'{name}_part_size': jnp.sqrt(jnp.mean(f**2)),
      f'{name}_addition': jnp.mean(added),
      f'{name}_addition_own': jnp.mean(own),
    }
  return measured


def cut(
  params: Params, initial: Params, data: Dataset, *, ranks: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """The network with its update cut to the best approximation of rank q.

  The approximation is update V_q V_q^T, with V_q the first q right singular
  vectors of the update: its pre-activations are (X V_q) (update V_q)^T.

  Args:
    params: trained, w (m, d) and a (k, m).
    initial: before training.
    data: n examples.
    ranks: q, (c,).

  Returns:
    Number of correct answers, and the error of the output as a fraction of
    its change in training, ||f_q - f(w(T))||_F / ||f(w(0)) - f(w(T))||_F: each
    (c,).
  """
  x, y = data
  update = params.w - initial.w
  # The triangle has the same right singular vectors and fewer rows.
  triangle = jnp.linalg.qr(update, mode='r')
  _, _, right = jnp.linalg.svd(triangle, full_matrices=False)
  right = right[: max(ranks)].T
  from_x, from_w = matmul(x, right), matmul(update, right)
  h0 = network.preactivations(initial.w, x)
  trained = network.logits(params, x)
  change = jnp.linalg.norm(network.logits(initial, x) - trained)

  def at_rank(q):
    kept = jnp.where(jnp.arange(right.shape[1])[None, :] < q, from_x, 0)
    h = h0 + matmul(kept, from_w.T)
    f = network.gated_logits(params.a, h, h >= 0)
    return metrics.num_correct(f, y), jnp.linalg.norm(f - trained) / change

  return jax.lax.map(at_rank, jnp.array(ranks))


def addition(
  a: Float[Array, 'k m'], h: Float[Array, 'n m'], pattern: Bool[Array, 'n m']
) -> Float[jax.Array, 'n k']:
  """How far terms of the output add up: 1 if of one sign, 0 if they cancel.

  |sum_r a_{i,r} h_r p_r| / sum_r |a_{i,r} h_r| p_r, for every example and
  class: (n, k). About sqrt(pi / m) for h ~ N(0, s^2) independent of a, p the
  pattern of h. 0 where no unit is active: there is nothing to add.
  """
  total = jnp.abs(network.gated_logits(a, h, pattern))
  whole = network.gated_logits(jnp.abs(a), jnp.abs(h), pattern)
  return jnp.where(whole == 0, 0, total / jnp.where(whole == 0, 1, whole))
