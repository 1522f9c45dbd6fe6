"""What `device` found, as Markdown."""

from typing import Any

from ossgd.results import claims


def table(found: dict[str, Any]) -> str:
  """As far as it is known."""
  device, environment = found['device'], found['environment']
  torch = environment['torch']
  cuda = environment['torch_cuda']
  beside = (
    f'PyTorch {torch}' if cuda else 'no PyTorch with CUDA to compare with'
  )
  lines = [
    f'{device["kind"]} ({device["platform"]}, {device["number"]} of them), '
    f'jax {environment["jax"]}, {beside}; float32 at highest precision.\n'
  ]
  if 'machine' in found:
    machine = found['machine']
    lines.append(
      f'Its limits: matmul {machine["matmul_flops"] / 1e12:.3g} TFLOP/s, copy '
      f'{machine["copy_bandwidth"] / 1e9:.4g} GB/s.\n'
    )
  if found['agreement']:
    lines.append(_agreement(found['agreement']))
  if found['cases']:
    lines.append(_cases(found['cases']))
  return '\n'.join(lines)


def _agreement(rows: list[dict[str, Any]]) -> str:
  """Every comparison, those first that are not within tolerance."""
  return claims.markdown_table(
    ('beside the CPU', 'difference', 'tolerance', ''),
    [
      (
        row['what'],
        _shown(row['difference'], '.1e'),
        _shown(row['tolerance'], '.0e'),
        '' if row['within'] else 'NOT WITHIN',
      )
      for row in sorted(rows, key=lambda row: row['within'])
    ],
  )


def _cases(cases: list[dict[str, Any]]) -> str:
  """A line a case, in the order of the work, not of their turns."""
  ordered = sorted(cases, key=lambda c: (c['work'], c['num_seeds'], c['width']))
  fast = {
    (case['work'], case['width']): case.get('seconds')
    for case in cases
    if (case['num_seeds'], case['contender']) == (1, 'fast')
  }
  return claims.markdown_table(
    (
      *('work', 'seeds', 'm', 'contender', 'seconds a seed', '/ fast, 1 seed'),
      *('/ bandwidth floor', '/ matmul floor', 'first call, s'),
      *('GB estimated', 'GB at most so far'),
    ),
    [_row(case, fast.get((case['work'], case['width']))) for case in ordered],
  )


def _row(case: dict[str, Any], fast: float | None) -> tuple[str, ...]:
  name = case['contender']
  if 'engine' in case:
    name += f' ({case["engine"]})'
  begin = (case['work'], str(case['num_seeds']), str(case['width']), name)
  if 'seconds' not in case:
    left_out = case.get('left_out')
    said = f'left out: {left_out}' if left_out else f'failed: {case["failed"]}'
    return (*begin, said, *[''] * 6)
  seconds = case['seconds']
  of_one = seconds / case['num_seeds']
  sizes = (case.get('estimated_bytes'), case['peak_bytes_so_far'])
  return (
    *begin,
    f'{of_one:.3g}',
    _shown(None if fast is None else of_one / fast, '.2g'),
    f'{seconds / case["floor_by_bandwidth"]:.2g}',
    f'{seconds / case["floor_by_matmul"]:.2g}',
    f'{case["first_seconds"]:.1f}',
    *(_shown(None if n is None else n / 1e9, '.2f') for n in sizes),
  )


def _shown(value: float | None, form: str) -> str:
  return '' if value is None else f'{value:{form}}'
