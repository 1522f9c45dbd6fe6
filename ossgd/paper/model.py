"""Which network is trained, on which loss, from where: the paper's if unsaid.

  f_i(x) = sum_r a_{i,r} phi(<w_r, x>)

Section 3 has the ReLU for phi, cross entropy, a_{i,r} ~ N(0, 1), independent
units, and w alone is trained. Every choice is a name or functions of one's own;
gradients are by hand all the same (`gradients`): of an activation its slope is
asked, of a loss its residual.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Shaped

from ossgd.paper.choices import ACTIVATIONS, LOSSES, Activation, Loss
from ossgd.paper.types import Array, normal

_LARGE = 5  # times the paper's, before it is remarked upon
_DRAWS = 4096  # pre-activations that show how large a network begins


OUTPUT_LAWS: dict[str, Callable[..., jax.Array]] = {
  'gaussian': normal,
  'rademacher': jax.random.rademacher,
}
STARTS = ('iid', 'antisymmetric')
LAYERS = ('hidden', 'both')


@dataclasses.dataclass(frozen=True)
class Model:
  """What is trained; the defaults are the paper's.

  Functions of one's own have to be told apart from one another: two of
  `functools.partial` or two lambdas are two models, and compiled twice.

  Raises:
    ValueError: of a name, of what is no function, of an unused output law.
  """

  # phi: a name of ACTIVATIONS, or (phi, slope), an `Activation`.
  activation: str | tuple = 'relu'
  # A name of LOSSES, or (value, residual), a `Loss`.
  loss: str | tuple = 'cross_entropy'
  # Of a_{i,r}: a name of OUTPUT_LAWS, or (key, shape, dtype) -> array, as the
  # functions of `jax.random` are.
  output_law: str | Callable = 'gaussian'
  # 'iid' (A3); 'antisymmetric': units 2r and 2r + 1 have the same w and
  # opposite a, so that f(x, w(0)) = 0 but for rounding; or a function of
  # `network.init_params`' arguments (key, *, width, dim, num_classes, scale).
  start: str | Callable = 'iid'
  # 'hidden': w alone, as in the paper; 'both': w and a.
  layers: str = 'hidden'

  def __post_init__(self):
    """Refuses what cannot be meant."""
    for name, known, is_own in (
      ('activation', ACTIVATIONS, _is_functions(self.activation, 2, 3)),
      ('loss', LOSSES, _is_functions(self.loss, 2, 2)),
      ('output_law', OUTPUT_LAWS, callable(self.output_law)),
      ('start', STARTS, callable(self.start)),
      ('layers', LAYERS, False),
    ):
      value = getattr(self, name)
      if not is_own and not (isinstance(value, str) and value in known):
        raise ValueError(
          f'{name} is {value!r:.100}; expected one of {", ".join(known)}'
          + _OWN.get(name, '')
        )
    if callable(self.start) and self.output_law != 'gaussian':
      raise ValueError(
        'start is a function, which draws a as well; expected it without '
        'output_law'
      )

  @property
  def _activation(self) -> Activation:
    if isinstance(self.activation, str):
      return ACTIVATIONS[self.activation]
    return Activation(*self.activation)

  @property
  def _loss(self) -> Loss:
    if isinstance(self.loss, str):
      return LOSSES[self.loss]
    return Loss(*self.loss)

  @property
  def piecewise_linear(self) -> bool:
    """Whether activation patterns and the pseudo-network are defined."""
    return self._activation.piecewise_linear

  def phi(self, h: Float[Array, '*n']) -> Float[jax.Array, '*n']:
    """phi(h), of pre-activations of any shape."""
    return self._activation.phi(h)

  def slope(self, h: Float[Array, '*n']) -> Shaped[jax.Array, '*n']:
    """phi'(h), as `gated` takes it."""
    return self._activation.slope(h)

  def losses(
    self, f: Float[Array, 'n k'], y: Int[Array, ' n']
  ) -> Float[jax.Array, ' n']:
    """The loss of every example."""
    return self._loss.value(f, y)

  def residual(
    self, f: Float[Array, 'n k'], y: Int[Array, ' n']
  ) -> Float[jax.Array, 'n k']:
    """The slope of every example's loss in its logits."""
    return self._loss.residual(f, y)

  def draw_outputs(
    self, key: jax.Array, shape: tuple[int, int]
  ) -> Float[jax.Array, 'k m']:
    """a, of the output law: the key is consumed."""
    law = self.output_law
    law = OUTPUT_LAWS[law] if isinstance(law, str) else law
    return law(key, shape, jnp.float32)

  def names(self) -> dict[str, str]:
    """Every choice by its name, or by that of its function."""
    return {name: _name(value) for name, value in vars(self).items()}


_OWN = {
  'activation': ', or (phi, slope)',
  'loss': ', or (value, residual)',
  'output_law': ', or a function of a key, a shape and a type',
  'start': ", or a function of init_params' arguments",
}


def _is_functions(value: Any, least: int, most: int) -> bool:
  fits = isinstance(value, tuple) and least <= len(value) <= most
  return fits and all(map(callable, value[:2]))


def _name(value: Any) -> str:
  if isinstance(value, tuple):
    value = value[0]
  return value if isinstance(value, str) else getattr(value, '__name__', 'own')


PAPER = Model()


def check(
  model: Model, *, width: int, dim: int, num_classes: int, scale: float = 1.0
) -> None:
  """Raises ValueError for a model that no such network can have.

  Functions of one's own are looked at by the shapes that they return; nothing
  is computed, but six numbers of a piecewise linear activation.
  """
  if model.loss == 'logistic' and num_classes != 2:
    raise ValueError(
      f'loss is logistic, but there are {num_classes} classes; expected 2, or '
      'another loss'
    )
  if model.start == 'antisymmetric' and width % 2:
    raise ValueError(
      f'width is {width}; expected an even number: the antisymmetric start has '
      'pairs of units'
    )
  number, key = jnp.float32, jax.random.key(0)
  h = jax.ShapeDtypeStruct((3, 5), number)
  f = jax.ShapeDtypeStruct((3, num_classes), number)
  y = jax.ShapeDtypeStruct((3,), jnp.int32)
  each = jax.ShapeDtypeStruct((3,), number)
  a = jax.ShapeDtypeStruct((num_classes, width), number)
  w = jax.ShapeDtypeStruct((width, dim), number)
  if isinstance(model.activation, tuple):
    phi, slope, _ = model._activation
    _check_shape('the phi of activation', phi, (h,), h)
    _check_shape('the slope of activation', slope, (h,), h, or_bool=True)
    _check_kink(model)
  if isinstance(model.loss, tuple):
    value, residual = model.loss
    _check_shape('the value of loss', value, (f, y), each)
    _check_shape('the residual of loss', residual, (f, y), f)
  if not isinstance(model.output_law, str):
    law = functools.partial(model.draw_outputs, shape=a.shape)
    _check_shape('output_law', law, (key,), a)
  if not isinstance(model.start, str):
    sizes = {'width': width, 'dim': dim, 'num_classes': num_classes}
    start = functools.partial(model.start, **sizes, scale=scale)
    _check_shape('the w of start', lambda key: start(key)[0], (key,), w)
    _check_shape('the a of start', lambda key: start(key)[1], (key,), a)


def _check_kink(model: Model) -> None:
  """What is said to be piecewise linear is so on six numbers."""
  h = jnp.array([-2.0, -1.0, -0.25, 0.25, 1.0, 2.0], jnp.float32)
  gap = jnp.abs(model.phi(h) - h * model.slope(h))
  if model.piecewise_linear and jnp.any(gap > 1e-5):
    raise ValueError(
      'activation says that it is piecewise linear, but phi(h) is not '
      'slope(h) h; expected that, with a kink at 0 alone, or (phi, slope)'
    )


def _check_shape(
  what: str,
  function: Callable,
  arguments: tuple,
  expected: jax.ShapeDtypeStruct,
  *,
  or_bool: bool = False,
) -> None:
  try:
    found = jax.eval_shape(function, *arguments)
  except Exception as error:  # whatever a function of the user's may raise
    first = str(error).strip().partition('\n')[0]
    raise ValueError(
      f'{what} raises {type(error).__name__}: {first}; expected '
      f'{expected.dtype} {expected.shape}'
    ) from error
  kinds = (expected.dtype, jnp.dtype(bool)) if or_bool else (expected.dtype,)
  shape, dtype = getattr(found, 'shape', None), getattr(found, 'dtype', None)
  if shape != expected.shape or dtype not in kinds:
    raise ValueError(
      f'{what} returns {dtype} {shape}; expected '
      f'{" or ".join(map(str, kinds))} {expected.shape}'
    )


class AtStart(NamedTuple):
  """How large a network is at w(0), for an input of some norm."""

  outputs: float  # root mean square of f_i(x, w(0))
  slopes: float  # root mean square of phi'(<w_r(0), x>): ReLU's is 0.7


def at_start(
  model: Model, *, width: int, scale: float = 1.0, norm: float = 1.0
) -> AtStart:
  """What f and its slopes begin as: outputs are sqrt(m E a^2 E phi(h)^2).

  With h ~ N(0, scale^2 ||x||^2 / m). phi(0) = 0 keeps outputs of order one,
  phi(0) != 0 makes them grow as sqrt(m). The kernel that descent begins with is
  m E phi'(h)^2 <x, x'>, so a slope of 0 at 0 makes it vanish beside the ReLU's.

  Args:
    width: m.
    scale: multiplies 1 / sqrt(m).
    norm: ||x||.

  Returns:
    Estimates from 4096 draws, within a few per cent; of a start of one's own
    nothing is known, and both are NaN.
  """
  if not isinstance(model.start, str):
    return AtStart(math.nan, math.nan)

  def root_mean_square(values):
    return float(jnp.sqrt(jnp.mean(jnp.square(values.astype(jnp.float32)))))

  key_h, key_a = jax.random.split(jax.random.key(0))
  h = jax.random.normal(key_h, (_DRAWS,), jnp.float32)
  h = h * jnp.float32(scale * norm / width**0.5)
  outputs = width**0.5 * root_mean_square(model.phi(h))
  outputs *= root_mean_square(model.draw_outputs(key_a, (1, _DRAWS)))
  if model.start == 'antisymmetric':
    outputs = 0.0
  return AtStart(outputs, root_mean_square(model.slope(h)))


def remarks(
  model: Model, *, width: int, scale: float, lr_times_width: float
) -> list[str]:
  """What of a model is likely not to learn, and by how much: sentences."""
  if model == PAPER:
    return []
  ours, paper = (
    at_start(one, width=width, scale=scale) for one in (model, PAPER)
  )
  where = f'activation {model.names()["activation"]}, m = {width}: '
  found = []
  if ours.outputs > _LARGE * paper.outputs:
    found.append(
      f'{where}outputs are about {ours.outputs:.3g} at the start (relu: '
      f'{paper.outputs:.2g}) and grow as sqrt(m) if phi(0) is not 0, which the '
      'steps may not undo; start=antisymmetric begins at 0'
    )
  if ours.slopes < paper.slopes / _LARGE:
    ratio = (ours.slopes / paper.slopes) ** 2
    found.append(
      f'{where}slopes are about {ours.slopes:.3g} at the start (relu: '
      f'{paper.slopes:.2g}): eta m = {lr_times_width:g} moves f as '
      f'{lr_times_width * ratio:.2g} would with relu; as much takes about '
      f'{lr_times_width / max(ratio, 1e-30):.2g}'
    )
  return found
