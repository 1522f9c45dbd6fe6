"""Scripts without a sweep on eight devices: tests of `eight_devices`."""

import functools
import re
from unittest import mock

import jax
import numpy as np
from absl.testing import parameterized

from experiments import kernel, precision, processes
from experiments.common import section7, seeds
from experiments.common.lemmas import (
  coupled_units,
  falling_loss,
  large_gradients,
)
from tests.devices import (
  BATCH,
  D,
  K,
  M,
  N,
  collectives,
  make,
)

POINTS = dict(
  widths=(M,), num_seeds=1, num_classes=K, num_components=2, dim=D, num_steps=3
)
TRAINED = dict(
  widths=(M,),
  num_seeds=1,
  num_classes=K,
  dim=D,
  num_steps=4,
  batch_size=BATCH,
  num_train=N,
  num_test=4,
)
STEPS = np.array([0, 1, 4])
COUPLING = coupled_units.Config(**POINTS, batch_size=2, num_test=5)
CONVERGENCE = falling_loss.Config(
  **POINTS | {'widths': (10 * M,)},
  horizon=5.0,
  step_sizes=(1.0, 30.0),
  batch_sizes=(2,),
  num_test=5,
)
GRADIENTS = large_gradients.Config(**POINTS, num_samples=2)
PROCESSES = processes.Config(**TRAINED)
PRECISION = precision.Config(**TRAINED)


class ScriptsTest(parameterized.TestCase):
  """Those that train without a sweep, one seed after another."""

  def check(self, found, expected):
    """To rounding, which a small margin of Lemma A.1 enlarges."""
    self.assertEqual(found.keys(), expected.keys())
    for name, values in expected.items():
      np.testing.assert_allclose(
        found[name], values, rtol=1e-4, atol=1e-5, err_msg=name
      )

  @parameterized.named_parameters(
    ('coupling', COUPLING, coupled_units.measure, 'general'),
    ('convergence', CONVERGENCE, falling_loss.measure),
    ('gradient_norm', GRADIENTS, large_gradients.simplified),
    ('processes', PROCESSES, processes._train, STEPS),
    ('precision', PRECISION, precision._train, 7, STEPS),
  )
  def test_programs(self, config, function, *settings):
    """Devices send each other no array (n, m) or (m, d)."""
    function = jax.jit(functools.partial(function, config, *settings))
    width, sent = 10 * M, set()

    def measure(*arguments):
      compiled = function.lower(*arguments).compile()
      sent.update(collectives(compiled))
      return compiled(*arguments)

    def found(mesh):
      measured = measure
      if isinstance(config, section7.Config):
        measured = section7.with_data(config, measure, mesh)
      return seeds.over_seeds(
        config, measured, lambda *told: None, width=width, mesh=mesh
      )

    results = [found(make(mesh)) for mesh in ('unit:1', 'unit:8')]
    self.check(*results)
    self.assertNotEmpty(sent)
    for kind, shapes in sent:
      for shape in re.findall(r'\w+\[([\d,]*)\]', shapes):
        sizes = [int(size) for size in shape.split(',') if size]
        # Lengths of m gradients, of four kinds, are sorted.
        self.assertLessEqual(np.prod(sizes), 4 * width, (kind, shapes))

  def test_kernel(self):
    """The whole script, whose Lanczos iteration is on the host."""
    shapes, measure = [], kernel._measure

    def seen(params, *data):
      shapes.append(params.w.addressable_shards[0].data.shape)
      return measure(params, *data)

    with mock.patch.object(kernel, '_measure', seen):
      found, expected = (
        kernel.run(kernel.Config(**TRAINED, mesh=mesh))
        for mesh in ('auto', 'unit:1')
      )
    self.check(found, expected)
    self.assertEqual(found.mesh, 'seed:1,unit:8')
    self.assertGreater(found.drift.max(), 0)
    half = len(shapes) // 2
    self.assertEqual(shapes, [(M // 8, D)] * half + [(M, D)] * half)
