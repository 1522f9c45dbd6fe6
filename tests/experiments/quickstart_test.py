"""Tests of experiments/quickstart.ipynb: it runs, and is stored unrun."""

import os
import pathlib
import tempfile
from unittest import mock

import nbclient
import nbformat
from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / 'experiments' / 'quickstart.ipynb'


def shown(cell: nbformat.NotebookNode) -> dict:
  """What a cell displays, by MIME type."""
  shown = {}
  for output in cell.get('outputs', []):
    shown |= output.get('data', {})
  return shown


class QuickstartTest(absltest.TestCase):
  def test_stored_without_outputs(self):
    """No stale results, no diff after a look at it; valid nbformat 4."""
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    self.assertEqual(notebook.nbformat, 4)
    for cell in notebook.cells:
      self.assertEqual(cell.get('outputs', []), [], cell.source)
      self.assertIsNone(cell.get('execution_count'), cell.source)

  def test_runs(self):
    """Away from the repository, every cell displays what it is there for."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    resources = {'metadata': {'path': folder}}
    client = nbclient.NotebookClient(notebook, timeout=600, resources=resources)
    with mock.patch.dict(os.environ, {'PYTHONPATH': str(ROOT)}):
      client.execute()
    cells = {
      cell.source: shown(cell)
      for cell in notebook.cells
      if cell.cell_type == 'code'
    }

    def of(part):
      (found,) = (data for text, data in cells.items() if part in text)
      return found

    for figure in (
      'plots.training_figure(ds)',
      'plots.training_figure(digits)',
      'plots.distance_figure(digits',
      'margins.plot.line',
    ):
      self.assertIn('image/png', of(figure), figure)
    (dataset,) = (data for text, data in cells.items() if text == 'ds')
    self.assertIn('test_accuracy', dataset['text/html'])
    self.assertContainsSubset(
      {'mean', 'std'}, of("'std': std")['text/plain'].split()
    )
    self.assertIn('width', of('own.dead')['text/plain'])
    self.assertIn('**measured**', of('claims.judge')['text/markdown'])
    self.assertIn('dim ', of('claims.judge')['text/markdown'])
