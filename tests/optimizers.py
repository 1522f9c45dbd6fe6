"""optax's optimizers in the plain engine, each beside a loop of optax alone.

  python -m tests.optimizers

trains with every optimizer of optax and optax.contrib, two seeds one by one and
side by side, and prints a Markdown table: what each asks for, how much it keeps
(in sizes of w), and how far its weights are from those of the loop, relative to
how far they went. Exits with 1 if any is further than rounding allows. Names
after it, such as `adam lbfgs`, are the only ones then.
"""

import functools
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ossgd.engines import kinds, measuring, optimizers, sgd
from ossgd.engines.setup import Setup
from ossgd.paper.types import Dataset, Params, Split

WIDTH, SEEDS, STEPS, BATCH = 24, 2, 6, 8
ETA_TIMES_WIDTH = 2.4
FURTHEST = 1e-3  # what float32 makes of rounding in a few steps
_K, _DIM, _N = 3, 6, 32
# Most of the time goes into compiling.
_QUICKLY: Any = dict(compiler_options={'xla_backend_optimization_level': 0})


def on_sgd(wrapper: Callable, *args: Any, **settings: Any) -> Callable:
  """An optimizer from what optax wraps around another one."""
  return lambda step_size: wrapper(optax.sgd(step_size), *args, **settings)


def on_plateau(step_size: float) -> optax.GradientTransformation:
  """SGD whose step size falls where the loss does not."""
  return optax.chain(
    optax.sgd(step_size), optax.contrib.reduce_on_plateau(patience=1)
  )


def sophia(step_size: float) -> optax.GradientTransformation:
  """Sophia, told the loss by the name that it asks for."""
  inner = optax.contrib.sophia(step_size, update_interval=2)

  def update(updates, state, params, *, value_fn, **others):
    del others
    return inner.update(updates, state, params, obj_fn=value_fn)

  return optax.GradientTransformationExtraArgs(inner.init, update)


def far(optimizer: Callable) -> Callable:
  """One whose step size is a bound, which is not to hide what follows from the
  loss."""
  return lambda step_size: optimizer(100 * step_size)


BOUNDED = {
  'polyak_sgd': far(optax.polyak_sgd),
  'contrib.momo': far(optax.contrib.momo),
  'contrib.momo_adam': far(optax.contrib.momo_adam),
}
# What is no function of a step size as it is.
WRAPPED: dict[str, Callable] = {
  'contrib.schedule_free(sgd)': lambda step_size: optax.contrib.schedule_free(
    optax.sgd(step_size), step_size
  ),
  'contrib.mechanize(sgd)': on_sgd(optax.contrib.mechanize),
  'contrib.sam(sgd)': on_sgd(optax.contrib.sam, optax.sgd(0.05)),
  'contrib.reduce_on_plateau': on_plateau,
  'contrib.dpsgd': functools.partial(
    optax.contrib.dpsgd, l2_norm_clip=1.0, noise_multiplier=0.1, seed=0
  ),
  'contrib.sophia(obj_fn=value_fn)': sophia,
}


def known() -> Iterator[tuple[str, Callable]]:
  """Every optimizer of the optax at hand, and its name."""
  for prefix, home in (('', optax), ('contrib.', optax.contrib)):
    for name, function in sorted(vars(home).items()):
      if not isinstance(function, types.FunctionType | functools.partial):
        continue
      parameters = list(inspect.signature(function).parameters.values())
      others = (p.default is not p.empty for p in parameters[1:])
      if not parameters or not all(others):
        continue
      first = parameters[0].name
      if 'scale_by' not in name and first.endswith('learning_rate'):
        yield prefix + name, BOUNDED.get(prefix + name, function)
  yield from WRAPPED.items()


@functools.cache
def data() -> Split:
  """A few examples of unit norm, in arrays."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2 * _N, _DIM)).astype(np.float32)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  y = rng.integers(_K, size=2 * _N).astype(np.int32)
  y[:_K] = range(_K)
  return Split(Dataset(x[:_N], y[:_N]), Dataset(x[_N:], y[_N:]))


def setup(optimizer: Callable, **settings: Any) -> Setup:
  """Of a training, all of it from one recorded step to the next."""
  usual: dict[str, Any] = dict(
    width=WIDTH,
    dim=_DIM,
    num_classes=_K,
    num_train=_N,
    num_test=_N,
    num_steps=STEPS,
    batch_size=BATCH,
    lr_times_width=ETA_TIMES_WIDTH,
    engine='plain',
  )
  return Setup(optimizer=optimizer, **usual | settings)


@functools.cache
def begun() -> tuple[Params, np.ndarray]:
  """Of every seed: its parameters at w(0), and its order's key, as numbers."""

  def one(seed):
    keys = measuring.seed_keys(seed)
    params = measuring.draw_params(
      keys.init, width=WIDTH, dim=_DIM, num_classes=_K, scale=1.0
    )
    return params, jax.random.key_data(keys.order)

  return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(np.arange(SEEDS)))


def of_seed(i: int) -> tuple[Params, np.ndarray]:
  """The same of one."""
  return jax.tree.map(lambda v: v[i], begun())


def trained(setup: Setup, at_once: int) -> jax.Array:
  """The weights to be judged of every seed: (seed, m, d)."""
  engine = kinds.make(setup)
  split = jax.tree.map(jnp.asarray, data())

  def one(params, key):
    key = jax.random.wrap_key_data(key)
    params = Params(params.w[: setup.width], params.a[:, : setup.width])
    state, begin = engine.start(key, params, split)
    state, _ = engine.stages['train'](state, begin, split, 0, STEPS)
    return engine.weights(engine.kept(state), params, split).w

  if at_once > 1:
    return jax.jit(jax.vmap(one), **_QUICKLY)(*begun())
  alone = jax.jit(one, **_QUICKLY)
  return jnp.stack([alone(*of_seed(i)) for i in range(SEEDS)])


def rows(key: jax.Array) -> Iterator[jax.Array]:
  """The examples of each step, as `orders.next_rows` says what they are."""
  for step in range(STEPS):
    epoch, i = divmod(step, _N // BATCH)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), _N)
    yield order[i * BATCH : (i + 1) * BATCH]


def by_hand(optimizer: Callable, *, order: str, of_g: bool) -> jax.Array:
  """The weights to be judged after a loop of optax alone: (seed, m, d)."""
  transformation = optax.with_extra_args_support(
    optimizer(ETA_TIMES_WIDTH / WIDTH)
  )
  x, y = jax.tree.map(jnp.asarray, data().train)

  @functools.partial(jax.jit, **_QUICKLY)
  def step(w, state, start, rows):
    def loss(w):
      h = x[rows] @ w.T
      gate = (x[rows] @ start.w.T if of_g else h) >= 0
      log_o = jax.nn.log_softmax(jnp.where(gate, h, 0.0) @ start.a.T)
      return -jnp.mean(jnp.take_along_axis(log_o, y[rows][:, None], 1))

    value, grad = jax.value_and_grad(loss)(w)
    extra = {'value': value, 'grad': grad, 'value_fn': loss}
    if isinstance(state, optax.contrib.SAMState):
      extra = {}  # against optax's own rule it takes no others
    updates, state = transformation.update(grad, state, w, **extra)
    return optax.apply_updates(w, updates), state

  found = []
  for i in range(SEEDS):
    start, key = of_seed(i)
    key, w = jax.random.wrap_key_data(key), jnp.asarray(start.w)
    state = seeded_by_hand(transformation.init(w), key)
    for batch in rows(key) if order == 'epochs' else STEPS * [np.arange(_N)]:
      w, state = step(w, state, start, batch)
    if isinstance(state, optax.contrib.ScheduleFreeState):
      w = optax.contrib.schedule_free_eval_params(state, w)
    found.append(w)
  return jnp.stack(found)


def seeded_by_hand(state: Any, order: jax.Array) -> Any:
  """With the random keys of a seed, as BUILD_NOTES.md says what they are."""
  mine = order
  for number in (2**32 - 1, WIDTH, 0):  # the first key, and the only one
    mine = jax.random.fold_in(mine, number)
  number = jax.random.bits(mine, dtype=jnp.uint32)
  return jax.tree.map(
    lambda v: jax.random.fold_in(v, number) if is_key(v) else v, state
  )


def is_key(leaf: jax.Array) -> bool:
  """Of either type: no optimizer of optax counts in uint32."""
  new = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return new or leaf.dtype == jnp.uint32


def differences(
  optimizer: Callable, order: Any = 'full_batch', *, of_g: bool = False
) -> list[float]:
  """Between ours and the loop, relative to how far it went: alone, by vmap.

  Raises:
    ValueError: the optimizer was refused.
  """
  gradient_fn = sgd.pseudo_network_gradient if of_g else sgd.true_gradient
  ours = setup(optimizer, gradient_fn=gradient_fn, order=order)
  ours.check()
  expected = by_hand(optimizer, order=order, of_g=of_g)
  moved = jnp.linalg.norm(expected - begun()[0].w)
  return [
    float(jnp.linalg.norm(trained(ours, at_once) - expected) / moved)
    for at_once in (1, SEEDS)
  ]


def row(name: str, optimizer: Callable) -> tuple[list[str], bool]:
  """A line of the table, and whether all is well."""
  try:
    found = differences(optimizer)
  except ValueError as error:
    said = str(error).partition('cannot be used: ')[2].partition('; exp')[0]
    return [name, 'refused', '', '', said], bool(said)
  transformation = optimizer(0.1)
  w = jnp.ones((WIDTH, _DIM))
  state = transformation.init(w)
  leaves = jax.tree.leaves(state)
  keeps = sum(v.size for v in leaves) / w.size
  asks = optimizers.asked_for(transformation, w)
  notes = []
  if isinstance(state, optax.contrib.SAMState):
    notes.append('measured at its adversarial point between two steps')
  if jax.tree.leaves(optimizers.averages(state)):
    notes.append('measured at its average x')
  if any(map(is_key, leaves)):
    notes.append("random keys are the seed's own")
  cells = [name, 'value, grad, value_fn' if asks else '', f'{keeps:.1f}']
  cells += [f'{d:.0e}' for d in found]
  return [*cells, '; '.join(notes)], max(found) < FURTHEST


def main(names: list[str]) -> int:
  """The table; the exit status."""
  warnings.simplefilter('ignore')
  print(f'optax {optax.__version__}, jax {jax.__version__}\n')
  print('| optimizer | asks for | keeps, in w | alone | under vmap | |')
  print('|---|---|---|---|---|---|')
  bad = []
  for name, optimizer in known():
    if not names or name in names:
      cells, good = row(name, optimizer)
      print('|', ' | '.join(cells), '|', flush=True)
      bad += [] if good else [name]
  print(f'\nNot as by hand: {", ".join(bad) or "none"}')
  return int(bool(bad))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
