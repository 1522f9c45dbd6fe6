"""The engines agree at random; `python -m tests.agreement` asks more often."""

import random
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
from absl.testing import parameterized

from ossgd.engines import blocked, gram, interface, setup
from ossgd.recording import divergence
from tests import agreement, rounding

# Blocks of 16 steps, of five with a tile to spare, and of all examples.
SMALL = agreement.Shape(
  *(20, 9, 7, 3, 24, 3, 'epochs', 8.0, 20, -1, 1, 'seed:1,unit:1')
)
WIDE = SMALL._replace(width=521, batch_size=12, zero_columns=2, seeds_at_once=2)
SHAPES = {
  'small': (SMALL, 80),
  'wide': (WIDE, 30),
  'full': (SMALL._replace(order='full_batch', zero_columns=0), 40),
  # More examples than coordinates, and C folded again and again.
  'folded': (
    SMALL._replace(num_train=58, dim=12, width=2, batch_size=8, zero_columns=6),
    80,
  ),
  'pass': (SMALL._replace(order='one_pass', num_train_eval=7), 6),
}
# Gaps longer than a chunk, several pieces in one, and folds of C.
FIXED = agreement.Configuration(SMALL._replace(batch_size=8), 80, 20, 0.0, 5)


class AgreementTest(parameterized.TestCase):
  @parameterized.named_parameters(
    *((name, *settings, False) for name, settings in SHAPES.items()),
    ('x64', SMALL, 80, True),
    ('x64_folded', *SHAPES['folded'], True),
    ('in_bits', SMALL, 80, False, 0),
    ('wide_in_bits', WIDE, 14, False, 0),
    ('x64_in_bits', SMALL, 80, True, 0),
  )
  def test_random_schedules(self, shape, num_steps, x64, in_bits=2**62):
    """Three of each, seeds and gaps drawn; C as numbers, or as bits."""
    agreement.forget()
    self.addCleanup(agreement.forget)
    self.enter_context(mock.patch.object(setup, '_WIDE', in_bits))

    @hypothesis.settings(
      max_examples=3,
      deadline=None,
      database=None,
      derandomize=True,
      phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.randoms(use_true_random=True))
    def check(rng):
      configuration = agreement.random_configuration(rng, shape, (num_steps,))
      wrong, _ = agreement.disagreements(configuration)
      self.assertEmpty(wrong, configuration)

    with jax.enable_x64(x64):
      check()

  def test_printed_configuration_is_the_same_again(self):
    rng = random.Random(0)
    for mode in agreement.MODES:
      shape = agreement.random_shape(rng, mode)
      drawn = agreement.random_configuration(rng, shape, (7,))
      self.assertEqual(agreement.parsed(agreement.printed(drawn)), drawn)


class GateTest(parameterized.TestCase):
  """Rounding may turn a gate whose pre-activation is all but zero."""

  # Unit 0 is in doubt on the first of four orthogonal examples, where a step
  # closes it, and closed on the others; a gate that stays closed for one step
  # is at the next open, and moves as far then.
  x = np.eye(5)
  problem = rounding.Problem(
    w=np.array([[1e-9, -1, -1, -1, 1], [0.5] * 5, [0.5] * 5]),
    a=np.array([[-1.0, 1, -1], [1, -1, 1]]),
    x=x,
    y=np.array([0, 0, 1, 1, 0]),
    rows=np.tile(np.arange(4), (6, 1)),
    num_train=4,
    num_train_eval=4,
    step_size=1e-4,
  )
  steps = np.arange(7)

  def found(self, *turned):
    """An engine's, whose other units are off as float32 is."""
    values = rounding.expected(self.problem, self.steps, set(turned)).values
    off = np.array([[0], [3e-8], [0]])
    return values | {'step': self.steps, 'w': values['w'] + off}

  @parameterized.parameters(0, 1)
  def test_found_again(self, number):
    """Also one whose unit ends where it would have ended with another."""
    found = self.found(*[(0, 0, 0)][:number])
    expected = rounding.expected(self.problem, self.steps)
    away = rounding.distances(expected, found)
    self.assertEqual(away['relative_distance'].max() > 1, number > 0)
    self.assertLess(away['w'].max(), 1)
    apart, turned = rounding.closest(self.problem, expected, found)
    self.assertEqual(turned, number)
    self.assertLess(max(map(np.max, apart.values())), 1)

  def test_no_other_gate_excuses(self):
    """One that is not in doubt."""
    found = self.found((0, 1, 0))
    expected = rounding.expected(self.problem, self.steps)
    apart, _ = rounding.closest(self.problem, expected, found)
    self.assertGreater(max(map(np.max, apart.values())), 1)


def nothing_recorded_is_an_end(real, record):
  """A chunk where nothing was measured, taken for a divergence."""
  return not divergence.finite(record)[:, -1:].any() or real(record)


def a_step_left_out(real, *arguments):
  """The first of every chunk."""
  for chunk in real(*arguments):
    ((slots,), _), *_ = chunk
    slots.active[0] = False
    yield chunk


def labels_of_another_step(real, a, h, gram, y, *others):
  """The first step of a block takes its labels from the next one."""
  return real(a, h, gram, y.at[0].set(y[1]), *others)


def a_coefficient_that_is_set(real, self, state, begin, split, steps, due):
  """An example that occurs twice in a chunk counts once: weights alone."""
  new, (trained,) = real(self, state, begin, split, steps, due)
  rows = begin.rows[steps.step].reshape(-1)
  c = state.c.at[rows].set(state.c[rows] + trained.updates)
  return new._replace(c=c), (trained,)


def one_part_in_ten_thousand(real, *arguments):
  """No bound is so wide that a step size wrong by that passes."""
  *others, rate, model, of_outputs = arguments
  return real(*others, rate * np.float32(1 + 1e-4), model, of_outputs)


def what_was_folded_before_is_lost(real, self, state, begin, split):
  """By the second time."""
  return real(self, state._replace(e=state.e * 0), begin, split)


class FaultTest(parameterized.TestCase):
  """What the comparison is for: a fault of each kind is found."""

  @parameterized.parameters(
    (interface, 'plan', lambda real, *arguments: real(*arguments)),
    (divergence, 'everywhere', nothing_recorded_is_an_end, 'gram'),
    (interface, 'plan', a_step_left_out, 'gram'),
    (blocked, 'updates', labels_of_another_step, 'blocked', 'gram'),
    (gram.OnGram, 'take_steps', a_coefficient_that_is_set, 'gram'),
    (blocked, 'updates', one_part_in_ten_thousand, 'blocked', 'gram'),
    (gram.OnGram, '_fold', what_was_folded_before_is_lost, 'gram'),
  )
  def test_is_found(self, home, name, fault, *in_engines):
    """And in these engines only, in programs that are compiled anew."""
    real = getattr(home, name)
    agreement.forget()
    self.addCleanup(agreement.forget)
    with mock.patch.object(home, name, lambda *args: fault(real, *args)):
      wrong = ' '.join(agreement.disagreements(FIXED)[0])
    for engine in agreement.ENGINES:
      self.assertEqual(f'{engine}, seed' in wrong, engine in in_engines, wrong)
