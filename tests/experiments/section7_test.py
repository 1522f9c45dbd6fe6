"""Scripts that train Section 7's networks themselves: runs, and refusals."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import xarray as xr
from absl.testing import parameterized

from experiments import kernel, precision, processes
from ossgd.data import mixtures
from ossgd.engines import measuring
from ossgd.paper.types import Params, Split
from ossgd.running import sweeps

SMALL = dict(
  num_seeds=3, seed=2, batch_size=8, dim=60, num_classes=4, num_train=120
)


def swept(config, steps) -> xr.Dataset:
  """What a sweep measures of the same widths and seeds at these steps."""
  return sweeps.sweep(
    mixtures.gaussian(num_classes=config.num_classes, dim=config.dim),
    widths=config.widths,
    num_seeds=config.num_seeds,
    seed=config.seed,
    num_steps=config.num_steps,
    batch_size=config.batch_size,
    num_train=config.num_train,
    num_test=config.num_test,
    eval_growth=0,
    engine='plain',
  ).sel(step=steps)


def drawn(config, seed, width) -> tuple[measuring.SeedKeys, Split, Params]:
  """The keys, data and w(0) of a seed."""
  keys = measuring.seed_keys(jnp.asarray(seed))
  split = mixtures.sample(
    keys.data,
    mixtures.gaussian(num_classes=config.num_classes, dim=config.dim),
    num_train=config.num_train,
    num_test=config.num_test,
  )
  params = measuring.draw_params(
    keys.init,
    width=width,
    dim=config.dim,
    num_classes=config.num_classes,
    scale=1.0,
  )
  return keys, split, params


class ScriptCase(parameterized.TestCase):
  """Of a script's tests, which share one run of a small Config."""

  @classmethod
  def run_once(cls, script, config):
    """Leaves `results`, after progress that never goes back."""
    fractions = []
    cls.results = script.run(
      config, lambda fraction, label: fractions.append(fraction)
    )
    assert fractions == sorted(fractions)
    np.testing.assert_allclose((fractions[0], fractions[-1]), (0, 1))


class SettingTest(parameterized.TestCase):
  @parameterized.product(
    script=(kernel, precision, processes),
    setting=(
      ({'widths': ()}, 'at least one'),
      ({'widths': (8, 8)}, 'all different'),
      ({'num_steps': 0}, 'num_steps is 0; expected a positive'),
      ({'lr_times_width': float('nan')}, 'lr_times_width is nan; .* positive'),
      ({'batch_size': 1001}, 'batch_size is 1001; expected 1 to 1000'),
    ),
  )
  def test_refused(self, script, setting):
    """Said before any work."""
    changed, message = setting
    config = dataclasses.replace(script.Config(), **changed)
    with self.assertRaisesRegex(ValueError, message):
      script.run(config, lambda *told: self.fail(told))
