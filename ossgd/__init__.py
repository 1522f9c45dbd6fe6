"""How wide two-layer ReLU networks learn close to their initialisation.

The system of Li & Liang, "Learning Overparameterized Neural Networks via
Stochastic Gradient Descent on Structured Data" (NeurIPS 2018), as pure
functions: `from ossgd import network, gradients, mixtures, sweeps, ...`.
"""

__version__ = '0.1.0'
