"""What the scripts that sweep widths share: settings, table, figures."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp

from ossgd.data import arrays, components, images, mixtures
from ossgd.engines import measuring
from ossgd.machine import memory
from ossgd.paper import kernels
from ossgd.paper.model import PAPER
from ossgd.paper.types import Split
from ossgd.results import paper_claims, plots, statistics
from ossgd.running import sweeps, watching

from . import models
from .options import DATASETS, as_flags, option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

PREPROCESS = (
  'How the inputs of a file or a known set are prepared; unit_norm is the '
  'default, and raw with --nonormalize. standardised_unit_norm: the mean of '
  'all training inputs is taken away, a number (MNIST 0.1307), then unit norm. '
  'centred_unit_norm: the mean training example is taken away, then unit norm. '
  'raw: pixels in [0, 1], and other numbers as they are.'
)
_SAMPLE = 200  # examples that show how large a step is stable


@dataclasses.dataclass(frozen=True)
class Config(models.Config):
  """Settings of a sweep; the defaults are Section 7's for synthetic data.

  A script that varies one of the numbers lists several of it instead.
  """

  widths: tuple[int, ...] = option(
    (1000, 2000, 4000, 8000, 16000),
    'm, hidden units. Our choice: the text of the paper names none.',
  )
  num_seeds: int = option(5, 'Runs per width (Section 7: 5).')
  seed: int = option(0, 'The first seed; run s is the same whatever this is.')
  num_steps: int = option(400, 'T, SGD steps (Section 7: 400; MNIST 20000).')
  batch_size: int = option(16, 'B, examples (Section 7: 16; MNIST 64).')
  lr_times_width: float = option(
    10.0, 'eta m, step size times width (Section 7: 10; MNIST 400).'
  )
  normalize: bool = option(
    True, 'Scale every input to unit norm, assumption (A2) of Section 3.'
  )
  init_scale: Any = option(
    1.0,
    'Multiplies 1/sqrt(m), the standard deviation of the initial weights (A3).',
  )
  order: str = option(
    'epochs',
    'epochs: reshuffled every pass (Section 7). one_pass: T = N/B (Section '
    '3). full_batch: all examples every step (Section 5.1).',
    choices=('epochs', 'one_pass', 'full_batch'),
  )
  eval_every: int = option(1, 'Steps between measurements, at least.')
  eval_growth: float = option(
    0.05,
    'Gaps between measurements double while they stay below this fraction of '
    'the step, which resolves early and late steps alike; 0: even gaps.',
  )
  target: float = option(
    0.98, 'Test accuracy of Figures 4 and 5, in (0, 1] (D.1: 0.98; MNIST 0.95).'
  )
  seeds_at_once: int = option(
    0,
    'Seeds trained side by side. 0: one on a CPU, all on an accelerator; fewer '
    'need less memory.',
  )
  engine: str = option(
    'auto',
    'plain: optax on the hand-written gradient, the definition. fast: the '
    'same numbers from fewer FLOPs. auto: the fastest that is exact and fits '
    'in memory.',
    choices=('auto', 'plain', 'fast'),
  )
  mesh: str = option(
    'auto',
    'Devices: seed:2,unit:4 splits seeds over 2 and the hidden units of each '
    'over 4. auto: as many as divide both. Numbers agree to rounding.',
  )


@dataclasses.dataclass(frozen=True)
class MixtureConfig(Config):
  """And the data of Section 7: a Gaussian mixture."""

  dim: int = option(1000, 'd, input coordinates (Section 7: 1000).')
  num_classes: int = option(10, 'k (Section 7: 10).')
  num_components: Any = option(2, 'l, components per class (Section 7: 2).')
  center_scale: float = option(
    5.0, 'sigma_0: component means ~ N(0, sigma_0^2/d I) (Section 7: 5).'
  )
  noise_scale: Any = option(
    1.0, 'sigma: examples ~ N(mean, sigma^2/d I) (Section 7: 1).'
  )
  num_train: int = option(1000, 'N, training examples (Section 7: 1000).')
  num_test: int = option(1000, 'Test examples (Section 7: 1000).')


@dataclasses.dataclass(frozen=True)
class DataConfig(MixtureConfig):
  """And whether to use other data in place of the mixture."""

  dataset: str = option(
    'synthetic',
    'synthetic: the mixture that the flags describe, fresh for every seed. '
    f'Else {DATASETS}, the same for every seed.',
  )
  data_dir: str = option('', 'The TFDS directory; empty: the default one.')
  preprocess: str | None = option(None, PREPROCESS, get_args(arrays.Preprocess))


def data(config: Any) -> components.Spec | Split:
  """What a Config says to train on: Section 7's mixture, a known set or files.

  Raises:
    ValueError: `preprocess` is asked of a mixture, or as `images.load` fails.
  """
  dataset = getattr(config, 'dataset', 'synthetic')
  if dataset != 'synthetic' or not isinstance(config, MixtureConfig):
    try:
      return images.load(
        dataset,
        data_dir=config.data_dir or None,
        normalize=config.normalize,
        preprocess=config.preprocess,
      )
    except (ValueError, OSError, ImportError) as error:
      raise ValueError(
        f'--dataset={dataset}: {as_flags(str(error))}'
      ) from error
  if isinstance(config, DataConfig) and config.preprocess is not None:
    raise ValueError(
      f'--preprocess={config.preprocess} is for data from files; the mixture '
      'has unit norm, or is left as it is drawn with --nonormalize'
    )
  return mixtures.gaussian(
    num_classes=config.num_classes,
    num_components=config.num_components,
    dim=config.dim,
    center_scale=config.center_scale,
    noise_scale=config.noise_scale,
    normalize=config.normalize,
  )


def sweep(
  config: Config, data: Any, progress: sweeps.Progress, **others: Any
) -> xr.Dataset:
  """`sweeps.sweep` with a Config's settings, and others if given."""
  others = models.settings(config) | others
  names = [field.name for field in dataclasses.fields(Config)]
  names += ['num_train', 'num_test', 'num_train_eval']
  settings = {n: getattr(config, n) for n in names if hasattr(config, n)}
  del settings['normalize']  # the data are scaled already
  for field in dataclasses.fields(models.Config):
    del settings[field.name]
  settings['seeds_at_once'] = config.seeds_at_once or None
  settings |= others
  measuring.check_seeds(config.seed, config.num_seeds)
  if others['model'] == PAPER:  # of others the limit kernel is not known
    _warn_if_unstable(data, settings['lr_times_width'], config.seed)
  results = sweeps.sweep(data, progress=progress, **settings)
  attrs = paper_claims.told(config) | results.attrs
  if hasattr(config, 'dataset'):
    attrs['dataset'] = config.dataset
  if getattr(config, 'preprocess', None) == 'raw':
    attrs['normalize'] = 0
  results = results.assign_attrs(attrs)
  if not isinstance(data, components.Spec):
    return results
  num_patterns = data.num_classes * data.num_components
  cliff = paper_claims.cliff(results.singular_values_update, num_patterns)
  return results.assign(cliff=cliff).assign_attrs(num_patterns=num_patterns)


def _warn_if_unstable(
  data: components.Spec | Split, lr_times_width: float, seed: int
) -> None:
  """Says so before the training, which may diverge; or may not."""
  if isinstance(data, Split):
    x = data.train.x[:_SAMPLE]
  else:
    rows = _SAMPLE + data.num_classes * data.num_components
    if 4 * 4 * rows * data.dim > memory.free():
      return  # too large to look at; the sweep will say whether it fits
    x = _inputs(measuring.seed_keys(jnp.asarray(seed)).data, data)
  stable = float(jax.jit(kernels.stable_lr_times_width)(x))
  if lr_times_width > stable:
    logging.warning(
      'eta m = %g is past %.0f, up to which descent on these inputs is stable '
      'whatever the logits are; look at the losses.',
      lr_times_width,
      stable,
    )


@functools.partial(jax.jit, static_argnums=1)  # once for all sweeps
def _inputs(key: jax.Array, spec: components.Spec) -> jax.Array:
  drawn = mixtures.sample(key, spec, num_train=_SAMPLE, num_test=1)
  return drawn.train.x


def over(
  config: MixtureConfig,
  name: str,
  progress: sweeps.Progress,
  others: Callable[[Any], dict[str, Any]] = lambda one: {},
) -> xr.Dataset:
  """One width at every value of a setting that lists several: dim `name`.

  Args:
    config: lists several values under this name.
    name: the setting.
    progress: told of all values together.
    others: from a Config with one value, more settings of `sweeps.sweep`.

  Raises:
    ValueError: more than one width is asked for.
  """
  import xarray as xr

  values = getattr(config, name)
  if len(config.widths) != 1 or len(set(values)) < len(values):
    raise ValueError(
      f'--widths={config.widths} --{name}={values}: expected one width, and '
      f'{name} without repetition'
    )
  watch = watching.watch(progress)
  parts = watch.parts((f'{name}={value}', 1) for value in values)
  configs = [dataclasses.replace(config, **{name: v}) for v in values]
  # Before any training: a mixture that cannot be is refused at once.
  first = data(configs[0])
  same = isinstance(first, Split)
  all_data = [first, *(first if same else data(one) for one in configs[1:])]
  found = []
  for one, its_data, part in zip(configs, all_data, parts, strict=True):
    results = sweep(one, its_data, part, **others(one))
    found.append(results.squeeze('width', drop=True))
  results = xr.concat(found, xr.Variable(name, list(values)))
  for of_first in (name, 'data'):  # which is not that of all
    results.attrs.pop(of_first, None)
  return results.assign_attrs(width=config.widths[0])


def at_first(good: xr.DataArray, values: xr.DataArray) -> xr.DataArray:
  """Values at the first recorded step where something is so: NaN without one.

  Args:
    good: bool, (..., step).
    values: (step,), or as `good`.
  """
  there = values.isel(step=good.argmax('step')).where(good.any('step'))
  return there.reset_coords(drop=True)


def early_error(results: xr.Dataset) -> xr.DataArray:
  """Mean test error over the first 50 steps, where learning happens."""
  steps = results.step.values
  end = min(50, steps[-1])
  inside = [*steps[steps < end], end]
  accuracy = results.test_accuracy
  if end not in steps:  # between two records
    accuracy = accuracy.interp(step=inside)
  return 1 - statistics.mean_over_steps(accuracy.sel(step=inside))


def figures(
  results: xr.Dataset, training: str, reference: float
) -> Mapping[str, Figure]:
  """The paper's three figures of a sweep over widths, by file name."""
  return {
    training: plots.training_figure(results),
    'figure4_steps': plots.steps_figure(results),
    'figure5_distance': plots.distance_figure(results, reference),
  }
