"""Runs whose numbers overflow: found, stopped, and marked from there on."""

import jax
import numpy as np

from ossgd.recording.recorders import DISTANCE, Record


def finite(record: Record) -> np.ndarray:
  """Whether losses and distance are numbers: (seed, step) bool.

  Weights that are not make the distance one that is not, also where a pattern
  of NaN >= 0 hides them from the loss.
  """
  names = ('train_loss', 'test_loss', DISTANCE)
  return np.logical_and.reduce([np.isfinite(record[name]) for name in names])


def everywhere(record: Record) -> bool:
  """Whether all seeds were measured, and last to be not finite: bool."""
  measured = finite(record)
  return measured.shape[1] > 0 and not measured[:, -1].any()


def marked(record: Record) -> Record:
  """The measurements with NaN from the first step that is not finite on."""
  gone = ~np.logical_and.accumulate(finite(record), axis=1)

  def one(values):
    at = gone.reshape(gone.shape + (1,) * (values.ndim - 2))
    return np.where(at, np.nan, values)

  return jax.tree.map(one, record)


def steps(record: Record, record_steps: np.ndarray) -> np.ndarray:
  """The first recorded step that is not finite, NaN if none: (seed,)."""
  bad = ~finite(record)
  first = record_steps[np.argmax(bad, axis=1)]
  return np.where(bad.any(axis=1), first, np.nan)
