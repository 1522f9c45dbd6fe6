"""Tests of claims as tables: families by hand, cells and lines."""

from absl.testing import parameterized

from ossgd.results import claims, statistics
from tests.results.judging_test import INF, NAN, judge


class FamilyTest(parameterized.TestCase):
  @parameterized.parameters(
    # Holm at 5 %: 0.01 x 3 stands, 0.03 x 2 does not, nor what follows.
    ((0.03, 0.01, 0.04), ['undecided', 'holds', 'undecided']),
    ((0.03,), ['holds']),
    ((), []),
  )
  def test_by_hand(self, p_values, verdicts):
    findings = [
      judge([1, 2, 3], 0)._replace(p=p, verdict='holds') for p in p_values
    ]
    self.assertEqual(claims.family_wise(findings), verdicts)

  def test_members(self):
    """Undecided ones count; worst cases and measurements do not."""
    holds = judge([1, 2, 3], 0)._replace(p=0.03, verdict='holds')
    undecided = [holds, judge([1, 1], 0)]
    self.assertEqual(claims.family_wise(undecided)[0], 'undecided')
    text = claims.summary(undecided)
    self.assertIn('family-wise undecided', text.splitlines()[0])
    self.assertNotIn('family-wise', text.splitlines()[1])
    every = judge([3], high=4, kind=statistics.Every)
    others = [holds, judge([1, 2]), every]
    self.assertEqual(
      claims.family_wise(others), ['holds', 'measured', 'holds in all']
    )
    self.assertIn('Holm over the 1 claims', claims.report(others))
    self.assertEqual(claims.report([]), '')


class ReportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.findings = [
      judge([1, 2, 3, 4, 5], 0, words='all is well'),
      judge([1, NAN, 1.1], -INF, 0.5, words='||w - w(0)|| is small'),
      judge([1, 1.2, 1.1], -INF, 0.5, words='no'),
      judge([7], 0.25, 0.75, quantity='a rather long quantity'),
    ]

  def test_table_is_well_formed(self):
    """As many unescaped bars in each line, a rule below the header."""
    text = claims.report(self.findings)
    table, note = text.split('\n\n')
    self.assertIn('Holm over the 4 claims of this table', note)
    lines = table.splitlines()
    self.assertLen(set(map(len, lines)), 1, 'columns line up on a terminal')
    self.assertRegex(lines[1], r'\A\|( -+ \|){11}\Z')
    header, *rows = claims.table_cells(table)
    self.assertLen(rows, 4)
    self.assertEqual(
      dict(zip(header, rows[0], strict=True)),
      {
        'claim': 'all is well',
        'paper': 'Section 7',
        'quantity': 'quantity',
        'holds if': '> 0',
        'measured': '3 ± 1.6',
        '95 % interval': '1.04 to 4.96',
        'seeds': '5',
        'p': '0.013',
        'verdict': '**holds**',
        'family-wise': 'holds',
        'why': '',
      },
    )
    self.assertIn(r'\|\|w - w(0)\|\| is small', lines[3])
    self.assertEqual(rows[1][3], '< 0.5')
    self.assertEqual(rows[1][6], '3 (1 without)')
    self.assertEqual(rows[3][3:6], ['0.25 to 0.75', '7', ''])

  def test_cells_of_a_table(self):
    """They come back as they were, bars, blanks and backslashes included."""
    rows = [['a|b', ' x y', '||'], ['\\', '', '-'], ['1 ± 2', '--', r'\|']]
    text = claims.markdown_table(['one', '', '|'], rows)
    expected = [[cell.strip() for cell in row] for row in rows]
    self.assertEqual(claims.table_cells(text), [['one', '', '|'], *expected])

  def test_summary(self):
    """A line a finding, the verdict first."""
    lines = claims.summary(self.findings).splitlines()
    verdicts = ['holds', 'undecided', 'fails', 'undecided']
    for line, finding, verdict in zip(
      lines, self.findings, verdicts, strict=True
    ):
      self.assertStartsWith(line.strip(), f'{verdict}: {finding.claim.words}')
    self.assertIn('3 ± 1.6; 1.04 to 4.96; > 0', lines[0])
    self.assertIn('1 of 3 seeds without a value', lines[1])
