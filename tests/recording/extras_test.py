"""What is asked of w(T) besides is refused before any training, or fits."""

import jax
import jax.numpy as jnp
import optax
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
    """Numbers of each kind, one shape at all widths, from all that is given."""
    checked(
      lambda params, begun, split: {
        'count': (params.w > begun.w).sum(),
        'alive': (params.w > 0).any(),
        'of_classes': params.a.sum(1),
        'of_inputs': split.train.x.T @ split.train.x,
        'one': 1,
      }
    )

  @parameterized.parameters(
    (lambda *_: jnp.ones(3), r'extra returned float32\[3\]; expected a dict'),
    (lambda *_: [1], 'extra returned list; expected a dict of arrays by name'),
    (of(x='text'), 'extra at width 8 raises TypeError: '),
    (of(x=None), 'extra returned x NoneType; expected an array of bool, int'),
    (of(x={'y': 1}), 'extra returned x dict; expected an array'),
    (of(x=jnp.ones(2, jnp.bfloat16)), r'extra returned x bfloat16\[2\]; exp'),
    (of(x=jnp.ones(2, complex)), r'extra returned x complex64\[2\]; expected'),
    (lambda *_: {'x': jax.random.key(0)}, r'extra returned x key<fry>\[\]; ex'),
    (lambda *_: {'a/b': 1}, "extra returned 'a/b'; expected names of letters"),
    (lambda *_: {1: 1}, 'extra returned 1; expected names of letters'),
    (lambda p, *_: {'x': float(p.w[0, 0])}, 'raises Concretization.*expected'),
    (
      lambda p, *_: {'x': p.w.reshape(3, -1)},
      'extra at width 8 raises TypeErr',
    ),
    (lambda p, *_: {'x': p.w}, r'returned x float32\[8,7\] at width 8, but no'),
    (
      lambda p, *_: {'x' if len(p.w) > 8 else 'y': 1},
      r'extra returned y int32\[\] at width 8, but not at every other',
    ),
    (of(train_loss=1), 'train_loss, but the results have train_loss already'),
    (of(stopped_at=1), 'stopped_at, but the results have stopped_at already'),
    (of(margins=1), 'margins, but the results have margins already'),
    (of(margins_0=1), 'margins_0, but the results have margins_0 already'),
    (of(x=jnp.ones(2), x_0=1), 'x_0, but the results have x_0 already'),
    (of(final_weights=1), "final_weights, a name of keep='weights'"),
    (of(unit_16=1), "unit_16, a name of keep='weights'"),
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
