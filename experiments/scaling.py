"""Past these machines: runs on 8 x H100 and 256 TPU chips, from shapes alone.

The model (`experiments.machines`) says for every width and number of seeds
which mesh is the fastest, what a device holds, computes and sends, and where
more devices stop helping. What can be checked of it here is checked, on virtual
devices of this CPU: bytes sent and held are counted in compiled programs, and
the time of a step is taken as a line in the width, whose offset grows with the
devices by what an all-reduce costs.

  python -m experiments.scaling --preset=quick --out=/tmp/quick
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import command, machines, virtual
from experiments.options import option
from ossgd import claims, cost, drawing, sweeps

if TYPE_CHECKING:
  import xarray as xr
  from matplotlib.figure import Figure

MACHINES = {m.name: m for m in (machines.H100, machines.V5P)}
PROBLEMS = {p.name: p for p in (machines.SYNTHETIC, machines.MNIST)}
# What is measured: an engine, and what the devices share among them.
LAYOUTS = {
  'plain, units split': ('plain', 'units'),
  'gram, units split': ('gram', 'units'),
  'plain, a seed each': ('plain', 'seeds'),
}
_CHUNK, _STEPS = 16, 32  # steps between measurements, and all of them
_ASKED = ('machine', 'problem', 'width', 'num_seeds')
_NUMBERS = (
  *('seeds', 'units', 'seeds_at_once', 'memory', 'sent'),
  *('arithmetic', 'traffic', 'latency', 'links', 'time', 'half', 'fewest'),
)
# What a step's time is made of.
_PARTS = {
  'arithmetic': 'FLOPs',
  'traffic': 'bandwidth',
  'latency': 'latency',
  'links': 'links',
}
_WORDS = ('engine', 'bound')


@dataclasses.dataclass(frozen=True)
class Config:
  """What to foretell, and what to measure for it."""

  widths: tuple[int, ...] = option(
    (10240, 102400, 1024000, 10240000, 102400000),
    'm of the plan; of a mesh along the units the powers of two are tried that '
    'divide it.',
  )
  num_seeds: tuple[int, ...] = option((1, 5, 1000), 'Seeds of the plan.')
  devices: tuple[int, ...] = option(
    (1, 2, 4, 8), 'Virtual devices, 1 first; so many seeds or parts of units.'
  )
  measured_widths: tuple[int, ...] = option(
    (512, 1024, 2048), 'm of the runs on them.'
  )
  repetitions: int = option(15, 'Timed chunks of 16 steps, in turns.')


PRESETS = {
  'quick': {
    'devices': (1, 2),
    'measured_widths': (512, 2048),
    'repetitions': 5,
  }
}


def run(
  config: Config, progress: sweeps.Progress = lambda fraction, label: None
) -> xr.Dataset:
  """The plan, and what was measured on virtual devices.

  Raises:
    ValueError: the first of the devices is not one alone, or a mesh does not
      divide a width that is measured.
  """
  if config.devices[:1] != (1,):
    raise ValueError(f'devices are {config.devices}; expected 1 as the first')
  return planned(config).merge(measured(config, progress))


def planned(config: Config) -> xr.Dataset:
  """The fastest way on each machine; NaN and '' where no seed fits."""
  import xarray as xr

  coords: dict[str, list[Any]] = {
    'machine': list(MACHINES),
    'problem': list(PROBLEMS),
    'width': list(config.widths),
    'num_seeds': list(config.num_seeds),
  }
  rows = []
  for names in itertools.product(*coords.values()):
    machine, problem = MACHINES[names[0]], PROBLEMS[names[1]]
    width, num_seeds = names[2:]
    row: dict[str, Any] = dict.fromkeys(_NUMBERS, np.nan)
    row |= dict.fromkeys(_WORDS, '')
    row['fewest'] = machines.fewest(machine, problem, width)
    step = machines.best(machine, problem, width, num_seeds)
    if step is not None:
      row |= {name: getattr(step, name) for name in machines.Step._fields}
      row |= {'time': step.time, 'bound': step.bound}
      row['half'] = machines.half(machine, problem, width, step)
      row['seeds'], row['units'] = row.pop('mesh')
    rows.append(row)
  shape = [len(values) for values in coords.values()]
  return xr.Dataset(
    {
      name: (list(coords), np.reshape([row[name] for row in rows], shape))
      for name in (*_NUMBERS, *_WORDS)
    },
    coords,
  )


def measured(config: Config, progress: sweeps.Progress) -> xr.Dataset:
  """What compiled programs hold and send, and how long a step takes."""
  import xarray as xr

  coords: dict[str, list[Any]] = {
    'devices': list(config.devices),
    'layout': list(LAYOUTS),
    'measured_width': list(config.measured_widths),
  }
  cases = [case_of(*names) for names in itertools.product(*coords.values())]
  progress(0.0, f'{len(cases)} runs on virtual devices')
  found = virtual.measure(cases, config.repetitions)
  progress(1.0, 'done')
  steps = np.arange(0, _STEPS + 1, _CHUNK)

  def array(values):
    shape = [len(values) for values in coords.values()]
    return list(coords), np.reshape(values, shape)

  return xr.Dataset(
    {
      'step_seconds': array([np.median(f.seconds) for f in found]),
      'sent_counted': array([f.sent.bytes for f in found]),
      'sent_modelled': array(
        [
          machines.sent(c.engine, c.shape, steps, c.mesh[1]).bytes
          for c in cases
        ]
      ),
      'memory_counted': array([f.memory for f in found]),
      'memory_modelled': array(
        [cost.memory(c.engine, c.shape, _STEPS, c.mesh) for c in cases]
      ),
    },
    coords,
  )


def case_of(devices: int, layout: str, width: int) -> virtual.Case:
  """Section 7's synthetic data; so many parts of one seed, or whole seeds."""
  engine, split = LAYOUTS[layout]
  mesh = (devices, 1) if split == 'seeds' else (1, devices)
  shape = machines.SYNTHETIC.shape._replace(width=width, seeds_at_once=mesh[0])
  return virtual.Case(engine, shape, _STEPS, _CHUNK, mesh)


def line(results: xr.Dataset, devices: int, layout: str) -> tuple[float, ...]:
  """Seconds of a step as offset + slope m, and the largest relative misfit.

  Least squares of relative errors.
  """
  seconds = results.step_seconds.sel(devices=devices, layout=layout).values
  widths = results.measured_width.values
  design = np.stack([np.ones(len(widths)), widths], 1) / seconds[:, None]
  fitted = np.linalg.lstsq(design, np.ones(len(widths)))[0]
  return *fitted, float(np.abs(design @ fitted - 1).max())


def table(results: xr.Dataset) -> str:
  """The plan, what was counted, and what was timed."""
  return '\n'.join((_plan(results), _counted(results), _timed(results)))


def _plan(results: xr.Dataset) -> str:
  rows = []
  for names in itertools.product(*(results[dim].values for dim in _ASKED)):
    row = results.sel(dict(zip(_ASKED, names, strict=True)))
    head = (*names[:2], f'{names[2]:.1e}', names[3])
    if np.isnan(row.time):
      rows.append((*head, 'does not fit', *[''] * 7, int(row.fewest), ''))
      continue
    rows.append(
      (
        *head,
        f'{int(row.seeds)} x {int(row.units)}, {int(row.seeds_at_once)}',
        str(row.engine.values),
        f'{float(row.memory) / 1e9:.3g}',
        f'{float(row.sent) / 1e3:.3g}',
        ' / '.join(f'{1e6 * float(row[part]):.3g}' for part in _PARTS),
        f'{1e6 * float(row.time):.3g}',
        f'{1e3 * float(row.time * names[3] / row.seeds_at_once):.3g}',
        _PARTS[str(row.bound.values)],
        int(row.fewest),
        f'{float(row.half):.2g}',
      )
    )
  header = (
    'machine',
    'data',
    'm',
    'seeds',
    'seeds x units, seeds at once',
    'engine',
    'GB a device',
    'kB summed a step',
    f'{" / ".join(_PARTS.values())}, µs',
    'µs a step',
    'ms, all seeds',
    'most is',
    'devices one seed needs',
    'units over so many: half is all-reduces',
  )
  return claims.markdown_table(header, rows)


def _counted(results: xr.Dataset) -> str:
  """Bytes in compiled programs, beside the model's."""
  rows = []
  for layout, devices in itertools.product(LAYOUTS, results.devices.values):
    at = results.sel(layout=layout, devices=devices)
    ratio = at.memory_counted / at.memory_modelled
    rows.append(
      (
        layout,
        devices,
        ', '.join(f'{v}' for v in at.sent_counted.values),
        ', '.join(f'{v}' for v in at.sent_modelled.values),
        ', '.join(f'{v:.2f}' for v in ratio.values),
      )
    )
  widths = ', '.join(map(str, results.measured_width.values))
  header = (
    'layout',
    'devices',
    f'bytes summed in {_STEPS} steps, m = {widths}',
    'model',
    'memory of the largest program / model',
  )
  return claims.markdown_table(header, rows)


def _timed(results: xr.Dataset) -> str:
  """Lines through the times, and what each adds to that of one device."""
  widest = int(results.measured_width.max())
  rows = []
  for layout, devices in itertools.product(LAYOUTS, results.devices.values):
    offset, slope, misfit = line(results, devices, layout)
    alone = line(results, 1, layout)
    engine, split = LAYOUTS[layout]
    seeds = devices if split == 'seeds' else 1
    all_reduces = machines.sent(
      engine, case_of(2, layout, widest).shape, np.array([_CHUNK]), 2
    ).all_reduces
    cost_of_one = (offset - alone[0]) / (all_reduces / _CHUNK)
    seconds = results.step_seconds.sel(layout=layout)
    ratios = seconds.sel(devices=devices) / seconds.sel(devices=1) / seeds
    rows.append(
      (
        layout,
        devices,
        f'{1e6 * offset:.0f}',
        f'{1e9 * slope:.0f}',
        f'{100 * misfit:.0f} %',
        ', '.join(f'{v:.2f}' for v in ratios.values),
        f'{1e6 * cost_of_one:.0f}' if split == 'units' and devices > 1 else '',
      )
    )
  header = (
    'layout',
    'devices',
    'offset, µs',
    'slope, ns a unit',
    'misfit',
    'time of a seed / on one device',
    'µs an all-reduce',
  )
  return claims.markdown_table(header, rows)


def figures(results: xr.Dataset) -> dict[str, Figure]:
  """Step of one seed against the devices its units are split over.

  Dotted: the work alone, whether it fits or not.
  """

  figure = drawing.new_figure(8, 3.2)
  axes = figure.subplots(1, len(MACHINES), sharey=True)
  for axis, machine in zip(axes, MACHINES.values(), strict=True):
    units = [1 << i for i in range(machine.devices.bit_length())]
    for width in results.width.values:
      steps = [
        machines.predict(
          machine, machines.SYNTHETIC, int(width), 'gram', (1, n), 1
        )
        for n in units
      ]
      times = [s.time if s.memory <= machine.memory else np.nan for s in steps]
      (drawn,) = axis.plot(units, times, 'o-', ms=3, label=f'm = {width:.1e}')
      work = steps[0].work / np.array(units)
      axis.plot(units, work, ':', color=drawn.get_color(), lw=1)
    axis.set_xscale('log', base=2)
    axis.set(yscale='log', title=machine.name, xlabel='devices')
  axes[0].set(ylabel='seconds a step')
  handles, labels = axes[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside right center')
  return {'scaling': drawing.explain_empty(figure, results)}


EXPERIMENT = command.Experiment(
  'scaling',
  Config,
  PRESETS,
  run,
  figures,
  table,
  claims=lambda ds: [],
)


def main(argv: list[str] | None = None) -> None:
  """Flags in, run folder out."""
  command.main(EXPERIMENT, argv)


if __name__ == '__main__':
  main()
