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
        f'{row["difference"]:.1e}',
        f'{row["tolerance"]:.0e}',
        '' if row['within'] else 'NOT WITHIN',
      )
      for row in sorted(rows, key=lambda row: row['within'])
    ],
  )


def _cases(cases: list[dict[str, Any]]) -> str:
  """A line a case, in the order of the work, not of their turns."""
  ordered = sorted(cases, key=lambda c: (c['work'], c['num_seeds'], c['width']))
  return claims.markdown_table(
    (
      'work',
      'seeds',
      'm',
      'contender',
      'seconds',
      '/ bandwidth floor',
      '/ matmul floor',
      'first call, s',
      'GB estimated',
      'GB at most so far',
    ),
    [_row(case) for case in ordered],
  )


def _row(case: dict[str, Any]) -> tuple[str, ...]:
  name = case['contender']
  if 'engine' in case:
    name += f' ({case["engine"]})'
  begin = (case['work'], str(case['num_seeds']), str(case['width']), name)
  if 'seconds' not in case:
    left_out = case.get('left_out')
    said = f'left out: {left_out}' if left_out else f'failed: {case["failed"]}'
    return (*begin, said, *[''] * 5)
  seconds = case['seconds']
  sizes = (case.get('estimated_bytes'), case['peak_bytes_so_far'])
  return (
    *begin,
    f'{seconds:.3g}',
    f'{seconds / case["floor_by_bandwidth"]:.2g}',
    f'{seconds / case["floor_by_matmul"]:.2g}',
    f'{case["first_seconds"]:.1f}',
    *('' if size is None else f'{size / 1e9:.2f}' for size in sizes),
  )
