"""What an accelerator would run, lowered for it by a machine without one.

Every compiled function is exported for CUDA and TPU. Exporting refuses what has
no lowering there; what was lowered is searched for calls out of the program,
for matmuls of less than float32, and for the inputs whose memory it may reuse.
"""

import functools
import re

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from jax import export

from ossgd.data import mixtures
from ossgd.engines import sgd
from ossgd.engines.setup import Setup
from ossgd.paper import (
  adversary,
  decomposition,
  descent,
  gradients,
  kernels,
  metrics,
  theory,
)
from ossgd.paper.types import Dataset, Params, Split
from ossgd.recording.recorders import Recorder
from ossgd.running import compiled, datasets

PLATFORMS = ('cuda', 'tpu')
RECORDERS = (
  Recorder('margin', of_units=lambda h, h0, a: jnp.abs(h).min(1), reduce='min'),
  Recorder('moved', of_units=lambda h, h0, a: jnp.sum((h - h0) ** 2)),
)
K, L, M, D, NUM_TRAIN, NUM_TEST = 3, 2, 10, 8, 12, 6
CLASSES = dict(num_classes=K, num_components=L, dim=D)
SPEC = mixtures.gaussian(**CLASSES)
# QR, SVD and the like: cuSOLVER's on a GPU, XLA's own on a TPU.
DECOMPOSITION = r'cusolver_\w+|Qr|Eigh|ProductOfElementaryHouseholderReflectors'


def floats(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


integers = functools.partial(floats, dtype=jnp.int32)
booleans = functools.partial(floats, dtype=jnp.bool_)


def exported(function, *args) -> str:
  """The module of a jitted function, lowered for both platforms."""
  found = export.export(function, platforms=PLATFORMS)(*args)
  assert found.platforms == PLATFORMS
  return found.mlir_module()


def host_calls(function, *args) -> set[str]:
  """Primitives that go back to the host, however deep in the program.

  They are looked for before lowering, which JAX refuses them for a platform
  that is not there.
  """
  program = str(function.trace(*args).jaxpr)
  names = r'\b(\w*callback\w*|debug_\w+|infeed|outfeed)\['
  return set(re.findall(names, program))


def outside(module: str) -> set[str]:
  """What a lowered program calls that is not an operation of its own."""
  calls = re.findall(r'custom_call @(\w+)', module)
  return {*calls, *re.findall(r'stablehlo\.(send|recv|infeed|outfeed)', module)}


def matmuls(module: str) -> tuple[int, int]:
  """How many there are on both platforms, and how many below float32."""
  lines = re.findall(r'^.*stablehlo\.dot_general.*$', module, re.M)
  lower = [line for line in lines if '[HIGHEST, HIGHEST]' not in line]
  return len(lines), len(lower)


def donors(module: str) -> int:
  """Inputs whose memory a lowered program may reuse for its outputs."""
  return module.count('tf.aliasing_output')


def zeros(shapes):
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def key() -> jax.ShapeDtypeStruct:
  return jax.eval_shape(lambda: jax.random.key(0))


def dataset(n: int) -> Dataset:
  return Dataset(floats(n, D), integers(n))


def programs_of(
  engine: str, seeds_at_once: int, data=SPEC, extra=None, **settings
) -> tuple[compiled.Programs, datasets.Source]:
  """Of a sweep of five steps."""
  source = datasets.source(data, NUM_TRAIN, NUM_TEST, None)
  defaults = dict(num_steps=5, eval_every=2, eval_growth=0.0, batch_size=4)
  setup = Setup(M, engine=engine, **source.sizes | defaults | settings)
  grouping = compiled.Grouping(seeds_at_once, None, source.shared is not None)
  return compiled.programs(setup, grouping, extra), source


def seeds_of(seeds_at_once: int) -> jax.Array:
  one = seeds_at_once == 1
  return jnp.arange(seeds_at_once)[0 if one else slice(None)]


def images() -> Split:
  """Data that all seeds share; two coordinates are zero everywhere."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(NUM_TRAIN + NUM_TEST, D)).astype(np.float32)
  x[:, [1, 4]] = 0
  x, y, n = jnp.asarray(x), jnp.arange(len(x)) % K, NUM_TRAIN
  return Split(Dataset(x[:n], y[:n]), Dataset(x[n:], y[n:]))


class _Case(parameterized.TestCase):
  def check(self, function, *args, decompositions=False) -> str:
    """Lowers, stays on the device and keeps to float32: its module."""
    self.assertEmpty(host_calls(function, *args))
    module = exported(function, *args)
    found = outside(module)
    if decompositions:
      self.assertNotEmpty(found)
      found = {name for name in found if not re.fullmatch(DECOMPOSITION, name)}
    self.assertEmpty(found)
    self.assertEqual(matmuls(module)[1], 0)
    return module


class CheckerTest(_Case):
  """Else the other tests could not fail."""

  @parameterized.parameters(
    lambda x: jax.debug.callback(lambda x: None, x),
    lambda x: jax.pure_callback(lambda x: x, x, x),
    lambda x: jax.experimental.io_callback(lambda x: x, x, x),
    lambda x: jax.debug.print('{}', x),
  )
  def test_callbacks(self, call):
    """Seen inside of a loop."""

    @jax.jit
    def function(x):
      def step(i, x):
        found = call(x)
        return x + 1 if found is None else found

      return jax.lax.fori_loop(0, 3, step, x)

    self.assertLen(host_calls(function, floats(3)), 1)
    with self.assertRaises(AssertionError):
      self.check(function, floats(3))

  def test_calls_out_of_the_program(self):
    """A decomposition is one: where none is expected, it is reported."""
    function = jax.jit(jnp.linalg.qr)
    self.check(function, floats(4, 3), decompositions=True)
    with self.assertRaises(AssertionError):
      self.check(function, floats(4, 3))

  def test_precision(self):
    """A plain @ has the platform's default."""
    square = floats(2, 2)
    for precision, lower in ((None, 2), ('high', 2), ('highest', 0)):
      function = functools.partial(jnp.matmul, precision=precision)
      module = exported(jax.jit(function), square, square)
      self.assertEqual(matmuls(module), (2, lower))

  def test_donors(self):
    """One that no output has the shape of is not reused."""

    def function(state, x):
      return {'w': state['w'] + x}

    state = {'w': floats(3), 'spare': floats(5)}
    for donated, expected in ((0, 1), ((), 0)):
      compiled = jax.jit(function, donate_argnums=donated)
      self.assertEqual(donors(exported(compiled, state, floats(3))), expected)


class ProgramsTest(_Case):
  """All that `compiled` has for one width and a block of seeds."""

  def check_all(self, programs, source, **of_start):
    seeds = seeds_of(programs.grouping.seeds_at_once)
    split = source.shared
    if split is None:
      self.check(source.draw, seeds)
      split = source.draw.shapes(seeds)
    self.check(programs.draw, seeds, split)
    begun = programs.draw.shapes(seeds, split)
    self.check(programs.start, begun, seeds, split, **of_start)
    state, begin = programs.start.shapes(begun, seeds, split)
    passed = ()
    for stage, told in zip(
      programs.stages.values(), programs.chunks[1].arguments, strict=True
    ):
      args = state, begin, split, passed, told
      self.check_stage(stage, *args)
      state, passed = stage.shapes(*args)
    kept = programs.kept(state)
    self.check(programs.finish, kept, begun, split, decompositions=True)

  def check_stage(self, stage, *args):
    """The memory of the whole state is used again, and of nothing else."""
    (state, *others), _ = stage.lower(*args).args_info
    self.assertTrue(all(leaf.donated for leaf in jax.tree.leaves(state)))
    self.assertFalse(any(leaf.donated for leaf in jax.tree.leaves(others)))
    module = self.check(stage, *args)
    self.assertEqual(donors(module), len(jax.tree.leaves(args[0])))

  @parameterized.product(
    engine=('plain', 'blocked', 'gram'), seeds_at_once=(1, 2)
  )
  def test_engines(self, engine, seeds_at_once):
    """From w(0) to the spectra, alone and under vmap over seeds.

    The state has memory of its own: a GPU refuses to use again what another
    argument is in.
    """
    programs, source = programs_of(engine, seeds_at_once)
    self.check_all(programs, source)
    self.check_memory(programs, source)

  @parameterized.product(dim=(5, 60), seeds_at_once=(1, 2))
  def test_folds(self, dim, seeds_at_once):
    """A run so long that C is folded, in d coordinates or in N."""
    spec = mixtures.gaussian(num_classes=K, num_components=2, dim=dim)
    programs, source = programs_of('gram', seeds_at_once, spec, num_steps=200)
    self.assertTrue(programs.setup.folds)
    by_qr = dim > NUM_TRAIN
    self.check_all(programs, source, decompositions=by_qr)
    self.check_memory(programs, source)

  def check_memory(self, programs, source):
    """What the state is in, nothing else is in."""
    seeds = seeds_of(programs.grouping.seeds_at_once)
    split = zeros(source.draw.shapes(seeds))
    begun = zeros(programs.draw.shapes(seeds, split))
    state, begin = programs.start(begun, seeds, split)

    def places(tree):
      return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]

    self.assertLen(set(places(state)), len(places(state)))
    self.assertNoCommonElements(
      places(state), places((seeds, begun, begin, split))
    )

  @parameterized.product(engine=('blocked', 'gram'), seeds_at_once=(1, 2))
  def test_skipping_zeros(self, engine, seeds_at_once):
    """Data that all seeds share, some of whose coordinates are not used.

    With recorders of a user's own.
    """
    skipping, source = programs_of(
      engine, seeds_at_once, images(), recorders=RECORDERS
    )
    self.assertEqual(skipping.setup.used_columns, (0, 2, 3, 5, 6, 7))
    self.check_all(skipping, source)

  @parameterized.parameters(
    dict(optimizer=functools.partial(optax.sgd, momentum=0.9)),
    dict(optimizer=optax.adam, order='one_pass', num_steps=3),
    dict(gradient_fn=sgd.pseudo_gradient, order='full_batch'),
    dict(gradient_fn=sgd.pseudo_network_gradient, num_train_eval=5),
    dict(extra=functools.partial(decomposition.take_apart, ranks=(1, 2))),
    dict(recorders=RECORDERS),
  )
  def test_plain_takes_more(self, **settings):
    """Other optimizers, gradients and orders; more to measure at the end."""
    self.check_all(*programs_of('plain', 2, **settings))


def theory_of_points() -> dict[str, tuple]:
  """Functions of the lemmas with their arguments' shapes."""
  n = K * L
  errors, gram = floats(n, K), floats(n, n)
  a, p = floats(K, M), booleans(n, M)
  problem = descent.Problem(gram, integers(n), floats(n, M), a)
  net = adversary.Units(a, p, gram, integers(n))

  def descend(problem, weights, step_size):
    return descent.descend(problem, weights, step_size, lambda view: view)

  def worst(project):
    return lambda net, start: adversary.worst(net, start, 0.1, project, 5)

  possible = functools.partial(adversary.possible, num_components=L)
  means = functools.partial(theory.component_means, num_components=n)
  constant = functools.partial(
    theory.coupling_constant, sigma=0.1, num_points=n
  )
  batches = functools.partial(
    descent.batch_weights, num_examples=n, batch_size=2, num_steps=2
  )
  return {
    'signed_errors': (theory.signed_errors, errors, integers(n)),
    'component_means': (means, errors, integers(n)),
    'largest_error': (theory.largest_error, errors, floats(n)),
    'unit_sums': (theory.unit_sums, p, errors, floats(n, D)),
    'gradient_norms': (theory.gradient_norms, a, p, errors, gram),
    'margins': (theory.margins, floats(M, D), floats(n, D)),
    'coupled': (theory.coupled, p, p),
    'reach': (theory.reach, a, 0.1, 3),
    'coupling_constant': (constant, floats(M)),
    'problem': (descent.problem, Params(floats(M, D), a), dataset(n)),
    'descend': (descend, problem, floats(4, n), 0.1),
    'batch_weights': (batches, key()),
    'norms': (adversary.norms, net, errors),
    'worst possible v': (worst(possible), net, errors),
    'worst v in the box': (worst(adversary.boxed), net, errors),
  }


class FunctionTest(_Case):
  """What scripts compile by themselves."""

  @parameterized.parameters(
    (SPEC, False),
    (mixtures.xor(lift=True), False),
    (mixtures.bounded(**CLASSES, separation=0.8, ratio=1 / 16), True),
  )
  def test_sample(self, spec, rotated):
    """Random rotations are made of a QR decomposition."""
    draw = functools.partial(
      mixtures.sample, spec=spec, num_train=NUM_TRAIN, num_test=NUM_TEST
    )
    self.check(jax.jit(draw), key(), decompositions=rotated)

  def test_point_set(self):
    """Case (S)."""
    spec = mixtures.point_masses(**CLASSES, separation=0.8)
    draw = functools.partial(mixtures.point_set, spec=spec)
    self.check(jax.jit(draw), key(), decompositions=True)

  @parameterized.parameters(*theory_of_points())
  def test_theory(self, name):
    function, *args = theory_of_points()[name]
    self.check(jax.jit(function), *args)

  def test_tangent_kernel(self):
    x, p = floats(NUM_TEST, D), booleans(NUM_TEST, M)
    self.check(jax.jit(kernels.kernel), floats(K, M), p, x, p, x)
    limit = functools.partial(kernels.limit_kernel, num_classes=K)
    self.check(jax.jit(limit), x, x)

  def test_curvature(self):
    """The Hessian times a vector, of which Lanczos on the host is made."""

    def product(params, data, v):
      def gradient(w):
        return gradients.gradient(Params(w, params.a), *data)

      return jax.jvp(gradient, (params.w,), (v,))[1]

    params = Params(floats(M, D), floats(K, M))
    module = self.check(jax.jit(product), params, dataset(NUM_TRAIN), params.w)
    self.assertGreaterEqual(matmuls(module)[0], 8)

  def test_spectrum_of_many_rows(self):
    """The decomposition by blocks of rows is a loop of its own."""
    rows = floats(2**15 + 3, 4)
    self.check(jax.jit(metrics.spectrum), rows, decompositions=True)
