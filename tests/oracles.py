"""The paper's formulas as float64 NumPy loops, written from its text alone."""

import numpy as np


def logits(w, a, x):
  """f_i(x) = sum_r a_{i,r} max(<w_r, x>, 0), one term at a time."""
  k, m = a.shape
  f = np.zeros((len(x), k))
  for s in range(len(x)):
    for i in range(k):
      for r in range(m):
        f[s, i] += a[i, r] * max(float(w[r] @ x[s]), 0.0)
  return f


def softmax(f):
  """o_i = e^{f_i} / sum_j e^{f_j} for one example."""
  e = np.exp(f - f.max())
  return e / e.sum()


def gradient(w, a, x, y, weights=None, w_pattern=None):
  """Eq. (1) summed with weights p_s; the indicator is w_pattern's if given."""
  w, a, x = (np.asarray(v, np.float64) for v in (w, a, x))
  y = np.asarray(y)  # an element of JAX's array is a program
  w_pattern = w if w_pattern is None else np.asarray(w_pattern, np.float64)
  n, k = len(x), len(a)
  weights = np.full(n, 1 / n) if weights is None else weights
  f = logits(w, a, x)
  total = np.zeros_like(w)
  for s in range(n):
    o = softmax(f[s])
    for r in range(len(w)):
      bracket = 0.0
      for i in range(k):
        if i != y[s]:
          bracket += a[i, r] * o[i] - a[y[s], r] * o[i]
      if w_pattern[r] @ x[s] >= 0:
        total[r] += weights[s] * bracket * x[s]
  return total


def problem(seed, *, k, m, d, n):
  """Random weights, inputs of unit norm and labels, as float32."""
  rng = np.random.default_rng(seed)
  w = rng.normal(size=(m, d)) / np.sqrt(m)
  a = rng.normal(size=(k, m))
  x = rng.normal(size=(n, d))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  y = rng.integers(k, size=n)
  return (*(v.astype(np.float32) for v in (w, a, x)), y.astype(np.int32))


def relative_error(value, expected):
  """||value - expected|| / ||expected||."""
  expected = np.asarray(expected, np.float64)
  return np.linalg.norm(value - expected) / np.linalg.norm(expected)
