"""Which of the paper's claims survive another model, beside the paper's own.

Section 7's data, steps and step size; the activation, the loss, the law of the
output weights, the start or the layers that are trained are another one, one
at a time. What Section 7 and D.1 say of the paper's model is asked of each: a
claim that holds for `paper` and not for a variant does not survive the change.
Where no activation pattern is, none is reported.

  python -m experiments.variants --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ossgd.paper.model import PAPER
from ossgd.results import claims, drawing, panels, paper_claims, tables
from ossgd.results.claims import Claim
from ossgd.running import sweeps, watching

from .common import command, models, training
from .common.options import option

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

# By name, the settings that are not the paper's.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
  'paper': {},
  'leaky_relu': {'activation': 'leaky_relu'},
  'abs': {'activation': 'abs'},
  'identity': {'activation': 'identity'},
  'tanh': {'activation': 'tanh'},
  'gelu': {'activation': 'gelu'},
  # With independent units its outputs begin at about 0.7 sqrt(m).
  'softplus': {'activation': 'softplus', 'start': 'antisymmetric'},
  'squared': {'loss': 'squared'},
  'hinge': {'loss': 'hinge'},
  'rademacher': {'output_law': 'rademacher'},
  'antisymmetric': {'start': 'antisymmetric'},
  'both': {'layers': 'both'},
}
_EARLY = 20  # a step at which all are compared


@dataclasses.dataclass(frozen=True)
class Config(training.DataConfig):
  """Section 7's set-up, with other models."""

  widths: tuple[int, ...] = option(
    (1000, 4000, 16000),
    'm, hidden units. Our choice: the text of the paper names none.',
  )
  variants: tuple[str, ...] = option(
    tuple(VARIANTS), f'Of {", ".join(VARIANTS)}: which, and in which order.'
  )


PRESETS = {
  'quick': {
    'widths': (500, 1000, 2000),
    'num_seeds': 2,
    'variants': ('paper', 'tanh', 'squared'),
    'num_steps': 100,
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """Every variant at every width with every seed: dim `variant`.

  Raises:
    ValueError: a variant is not known, or named twice; or as `sweeps.sweep`.
  """
  import xarray as xr

  names = config.variants
  if not names or len(set(names)) < len(names) or set(names) - set(VARIANTS):
    raise ValueError(
      f'variants are {names}; expected some of {", ".join(VARIANTS)}, all '
      'different'
    )
  models.check_unvaried(config, *PAPER.names())
  data = training.data(config)
  parts = watching.watch(progress).parts((name, 1) for name in names)
  found = []
  for name, part in zip(names, parts, strict=True):
    one = dataclasses.replace(config, **VARIANTS[name])
    found.append(training.sweep(one, data, part))
  results = xr.concat(
    found, xr.Variable('variant', list(names)), combine_attrs='drop_conflicts'
  )
  k = results.attrs['num_classes']
  early = int(results.step.sel(step=_EARLY, method='nearest'))
  scaled = results.relative_distance * np.sqrt(results.width)
  return results.assign(
    classes_cliff=paper_claims.cliff(results.singular_values_update, k - 1),
    scaled_at_target=results.distance_at_accuracy * np.sqrt(results.width),
    scaled_early=scaled.sel(step=early, drop=True),
    scaled_last=scaled.isel(step=-1, drop=True),
  ).assign_attrs(early=early)


def _patterns(results: xr.Dataset, variant: str) -> bool:
  """Whether a variant has activation patterns."""
  if 'pattern_difference' not in results:
    return False
  values = results.pattern_difference.sel(variant=variant)
  return bool(values.notnull().any())


def _of_variant(results: xr.Dataset, variant: str) -> list[Claim]:
  """What the paper says of its own model, asked of another one."""
  varied = PAPER.names()
  asked = paper_claims.training_claims(
    'Figure 1', num_patterns=results.attrs.get('num_patterns'), constant=2 / 3
  )

  # Once, not once a claim.
  one, has_patterns = results.sel(variant=variant), _patterns(results, variant)

  def measured(measure, ds):
    return measure(one if ds is results else ds.sel(variant=variant))

  return [
    claim._replace(
      words=f'{variant}: {claim.words}',
      measure=functools.partial(measured, claim.measure),
      setup={n: v for n, v in claim.setup.items() if n not in varied},
    )
    for claim in asked
    if has_patterns or not claim.needs
  ]


def _claims(results: xr.Dataset) -> list[Claim]:
  """Of all variants."""
  names = results.variant.values.tolist()
  return [claim for name in names for claim in _of_variant(results, name)]


def _verdicts(results: xr.Dataset, found: Sequence[claims.Finding]) -> str:
  """Which claims survive which change; no claim, no verdict."""
  by_claim: dict[str, dict[str, str]] = {}
  for finding in found:
    variant, _, words = finding.claim.words.partition(': ')
    by_claim.setdefault(words, {})[variant] = finding.verdict
  names = results.variant.values.tolist()
  rows = [
    (words, *(by_variant.get(name, '') for name in names))
    for words, by_variant in by_claim.items()
  ]
  return claims.markdown_table(['claim', *names], rows)


def _quantities(results: xr.Dataset) -> dict[str, xr.DataArray | None]:
  """What is told of every variant and width: (variant, width, seed)."""
  last = results.isel(step=-1)
  percent = f'{100 * results.target:g} %'
  early, k = results.attrs['early'], results.attrs['num_classes']
  return {
    'test accuracy': last.test_accuracy,
    f'steps to {percent}': results.steps_to_accuracy,
    f'sqrt(m) x distance at {percent}': results.scaled_at_target,
    f'at step {early}': results.scaled_early,
    'at the last step': results.scaled_last,
    'pattern difference': last.get('pattern_difference'),
    'singular value k l over the next': results.get('cliff'),
    f'value {k - 1} / {k}': results.classes_cliff,
  }


def _table(results: xr.Dataset) -> str:
  """Means, and slopes in m."""
  quantities = tables.known(_quantities(results))
  names = results.variant.values.tolist()
  means = tables.means_table(quantities, variant='model', width='m')
  starts = ('sqrt(m)', 'at step', 'at the last', 'pattern')
  sloped = {q: v for q, v in quantities.items() if q.startswith(starts)}
  rows = [
    (
      name,
      *(
        tables.slope_text(values.sel(variant=name), dim='width')
        for values in sloped.values()
      ),
    )
    for name in names
  ]
  slopes = claims.markdown_table(['slope in log m of', *sloped], rows)
  return f'{means}\n{slopes}\n'


def _figures(results: xr.Dataset) -> dict[str, Figure]:
  """What is told, against width, a curve a variant."""
  names = results.variant.values.tolist()
  shown = {
    'Final test accuracy\n(fraction of examples)': (
      results.test_accuracy.isel(step=-1)
    ),
    r'$\sqrt{m}$ x relative distance at the target': results.scaled_at_target,
    r'$\sqrt{m}$ x relative distance at the end': results.scaled_last,
  }
  fig = panels.panels_figure(
    {
      label: {name: values.sel(variant=name) for name in names}
      for label, values in shown.items()
    },
    'width',
    'Hidden units $m$',
    'log',
  )
  return {'variants': drawing.explain_empty(fig, results)}


EXPERIMENT = command.Experiment(
  'variants',
  Config,
  PRESETS,
  run,
  _figures,
  _table,
  _claims,
  training.data,
  _verdicts,
)


main = EXPERIMENT.main

if __name__ == '__main__':
  main()
