"""What is asked of w(T) besides is refused before any training, or fits."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from absl.testing import parameterized

import ossgd
from ossgd.data import mixtures
from ossgd.recording import extras, shapes
from ossgd.recording.recorders import STANDARD, Recorder

SPEC = mixtures.gaussian(num_classes=3, num_components=2, dim=7)
SPLIT = jax.eval_shape(
  lambda key: mixtures.sample(key, SPEC, num_train=5, num_test=4),
  jax.random.key(0),
)
MARGINS = Recorder(
  'margins', of_logits=lambda f, y: jnp.sort(f, axis=1).mean(0), examples='test'
)


def checked(extra, *widths) -> None:
  examples = {'train': 5, 'test': 4}
  sizes = (shapes.Sizes(examples, 3, m, 7) for m in widths or (8, 16))
  extras.check(extra, SPLIT, (*STANDARD, MARGINS), *sizes)


def of(**values):
  return lambda params, begun, split: values


class ExtrasTest(parameterized.TestCase):
  def test_what_fits(self):
    """It is checked, trained for, kept and read again as it was."""

    def extra(params, begun, split):
      return {
        'count': (params.w > begun.w).sum(),
        'alive': (params.w > 0).any(),
        'of_classes': params.a.sum(1),
        'of inputs-squared': split.train.x.T @ split.train.x,
        'unit_norm': jnp.linalg.norm(params.w[0]),
        'final_weights_norm': jnp.linalg.norm(params.w),
        'half': params.w.sum().astype(jnp.float16),
        'kind': 1 if len(params.w) > 5 else 1.0,
        'singular_values_relu': jnp.linalg.svd(
          jnp.maximum(params.w, 0), compute_uv=False
        ),
      }

    checked(extra)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    sizes = dict(num_seeds=1, num_steps=2, num_train=20, num_test=9)
    settings = dict(widths=(4, 6), extra=extra, keep='weights', **sizes)
    found = ossgd.sweep(SPEC, folder=folder, **settings)
    xr.testing.assert_identical(ossgd.load(folder), found)
    self.assertEqual(found.singular_values_relu.dims, ('width', 'seed', 'rank'))
    self.assertEqual(
      found.singular_values_relu.notnull().sum('rank').values.tolist(),
      [[4], [6]],
    )
    norms = [np.linalg.norm(found[f'final_weights_{m}'].values) for m in (4, 6)]
    np.testing.assert_allclose(found.final_weights_norm[:, 0], norms, rtol=1e-6)

  def test_what_a_function_refers_to(self):
    """May change between two calls; JAX would know the function again."""
    name = 'fine'

    def extra(params, begun, split):
      return {name: 1}

    checked(extra)
    name = 'train_loss'
    with self.assertRaisesRegex(ValueError, 'extra returned train_loss'):
      checked(extra)
    name = 'fine'
    checked(extra)
    sizes = shapes.Sizes({'train': 5, 'test': 4}, 3, 8, 7)
    axis = None
    recorder = Recorder('total', of_logits=lambda f, y: jnp.sum(f, axis))
    self.assertEqual(shapes.shape(recorder, sizes).shape, ())
    axis = 0
    self.assertEqual(shapes.shape(recorder, sizes).shape, (3,))

  @parameterized.parameters(
    (lambda *_: jnp.ones(3), r'extra returned float\d\d\[3\]; expected a di'),
    (lambda *_: [1], 'extra returned list; expected a dict of arrays by name'),
    (of(x='text'), 'extra at width 8 raises TypeError: '),
    (of(x=None), 'extra returned x NoneType; expected an array of numb'),
    (of(x={'y': 1}), 'extra returned x dict; expected an array'),
    (of(x=jnp.ones(2, jnp.bfloat16)), r'extra returned x bfloat16\[2\]; exp'),
    (
      of(x=jnp.ones(2, jnp.int4)),
      r'extra returned x int4\[2\]; expected an arr',
    ),
    (lambda *_: {'x': jax.random.key(0)}, r'extra returned x key<fry>\[\]; ex'),
    (lambda *_: {'a/b': 1}, "extra returned 'a/b'; expected names that are te"),
    (lambda *_: {1: 1}, 'extra returned 1; expected names that are texts'),
    (
      of(singular_values_top=1.0),
      r'top float\d\d\[\] at width 8; expected float',
    ),
    (of(singular_values_x=jnp.ones(6)), r'float\d\d\[6\] .* float32\[7\], or'),
    (
      of(singular_values_x=jnp.ones(7, int)),
      r'int\d\d\[7\] at .* float32\[7\]',
    ),
    (lambda p, *_: {'x': float(p.w[0, 0])}, 'raises Concretization.*expected'),
    (
      lambda p, *_: {'x': p.w.reshape(3, -1)},
      'extra at width 8 raises TypeErr',
    ),
    (lambda p, *_: {'x': p.w}, r'returned x \[8, 7\] at width 8, but not at'),
    (
      lambda p, *_: {'x' if len(p.w) > 8 else 'y': 1},
      r'extra returned y \[\] at width 8, but not at every other',
    ),
    (of(train_loss=1), 'train_loss, but train_loss is a name of the results'),
    (of(stopped_at=1), 'stopped_at is a name of the results; expected anoth'),
    (of(margins=1), 'margins is a name of the results'),
    (of(margins_0=1), 'margins_0 is a name of the results'),
    (of(x=jnp.ones(2), x_0=1), 'x_0, but x_0 is a name of the results'),
    (of(final_weights_16=1), 'final_weights_16 is a name of the results'),
    (of(unit_16=1), 'unit_16 is a name of the results'),
  )
  def test_what_does_not(self, extra, said):
    with self.assertRaisesRegex(ValueError, said):
      checked(extra)

  def test_names_of_ours(self):
    """All of a sweep's are known, so that none is taken twice."""
    found = ossgd.sweep(
      SPEC,
      widths=(4, 5),
      num_seeds=1,
      num_steps=2,
      optimizer=optax.sgd,
      callback=lambda *_: None,
      keep='weights',
      num_train=20,
      num_test=9,
    )
    for name in (*found.variables, *found.dims):
      with self.assertRaisesRegex(ValueError, f'extra returned {name}'):
        checked(of(**{name: 1}))
