"""How wide two-layer ReLU networks learn close to their initialisation.

The system of Li & Liang, "Learning Overparameterized Neural Networks via
Stochastic Gradient Descent on Structured Data" (NeurIPS 2018), as pure
functions. What is public, each imported when it is first asked for:

  sweep           trains widths x seeds, measured as they go: xarray.Dataset
  save, load      a run folder: results with their settings and versions
  merge           run folders as one: the seeds of a job array, say
  Model           another activation, loss, output law, start, or both layers
  Recorder        a measure of one's own, at every recorded step of a sweep

  base            Params, Dataset (x and y), Split: what arrays travel in
  network         the network, its patterns, logits and the pseudo-network
  gradients       eq. (1) and the pseudo-gradient of Section 5
  metrics         accuracy, pattern difference, distance, spectrum
  decomposition   an update taken apart: by rank, by sign
  kernels         the tangent kernel, its limit and its curvature
  theory          quantities and bounds of Lemmas 5.1, A.1 to B.4
  descent         steps in the span of the data, for the lemmas' small times
  adversary       the worst weights of Lemma A.2
  convexity       the convex functions of Lemmas A.5, B.5 and B.6

  mixtures        structured data: Section 3's mixtures, drawn from keys
  geometry        separation and diameter of supports: delta and lambda
  arrays          data of one's own, checked and scaled
  images          MNIST and its like, and files, by name

  sgd             steps, orders and gradients of training
  sweeps          training without a folder, and the variables it returns
  statistics      intervals over seeds
  claims          verdicts
  plots           figures of what a sweep returns
  records         reads and writes run folders

They are attributes: `from ossgd import mixtures`, not `import ossgd.mixtures`.
All else is internal and may move. The paper's symbols are words here:

  word in the code                         paper                  shape
  width                                    m                      int
  dim                                      d                      int
  num_classes                              k                      int
  num_components (per class)               l                      int
  Params.w, hidden weights                 w_r                    (m, d)
  Params.a, output weights                 a_{i,r}                (k, m)
  preactivations                           <w_r, x>               (n, m)
  pattern                                  1[<w_r, x> >= 0]       (n, m) bool
  logits                                   f_i(x)                 (n, k)
  pseudo_logits                            g_i(x)                 (n, k)
  residual                                 o_i - 1[i = y] = -v_i  (n, k)
  lr_times_width                           eta m                  float
  center_scale, noise_scale                sigma_0, sigma (data)  float
  separation, ratio                        delta, lambda          float
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from ossgd.data import arrays as arrays
  from ossgd.data import geometry as geometry
  from ossgd.data import images as images
  from ossgd.data import mixtures as mixtures
  from ossgd.engines import sgd as sgd
  from ossgd.paper import adversary as adversary
  from ossgd.paper import convexity as convexity
  from ossgd.paper import decomposition as decomposition
  from ossgd.paper import descent as descent
  from ossgd.paper import gradients as gradients
  from ossgd.paper import kernels as kernels
  from ossgd.paper import metrics as metrics
  from ossgd.paper import network as network
  from ossgd.paper import theory as theory
  from ossgd.paper import types as _types
  from ossgd.paper.model import Model as Model
  from ossgd.recording.recorders import Recorder as Recorder
  from ossgd.results import claims as claims
  from ossgd.results import plots as plots
  from ossgd.results import statistics as statistics
  from ossgd.running import sweeps as sweeps
  from ossgd.storing import records as records
  from ossgd.storing.growing import sweep as sweep
  from ossgd.storing.saving import load as load
  from ossgd.storing.saving import merge as merge
  from ossgd.storing.saving import save as save

  base = _types

__version__ = '0.1.0'

# Where each name is: a module below this package, and what to take of it.
_HOMES = {
  'Model': 'paper.model:Model',
  'Recorder': 'recording.recorders:Recorder',
  'adversary': 'paper.adversary',
  'arrays': 'data.arrays',
  'base': 'paper.types',
  'claims': 'results.claims',
  'convexity': 'paper.convexity',
  'decomposition': 'paper.decomposition',
  'descent': 'paper.descent',
  'geometry': 'data.geometry',
  'gradients': 'paper.gradients',
  'images': 'data.images',
  'kernels': 'paper.kernels',
  'load': 'storing.saving:load',
  'merge': 'storing.saving:merge',
  'metrics': 'paper.metrics',
  'mixtures': 'data.mixtures',
  'network': 'paper.network',
  'plots': 'results.plots',
  'records': 'storing.records',
  'save': 'storing.saving:save',
  'sgd': 'engines.sgd',
  'statistics': 'results.statistics',
  'sweep': 'storing.growing:sweep',
  'sweeps': 'running.sweeps',
  'theory': 'paper.theory',
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module, _, inside = _HOMES[name].partition(':')
  found = importlib.import_module(f'{__name__}.{module}')
  globals()[name] = getattr(found, inside) if inside else found
  return globals()[name]


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES})
