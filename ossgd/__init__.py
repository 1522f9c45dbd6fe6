"""How wide two-layer ReLU networks learn close to their initialisation.

The system of Li & Liang, "Learning Overparameterized Neural Networks via
Stochastic Gradient Descent on Structured Data" (NeurIPS 2018), as pure
functions: `from ossgd import network, gradients, mixtures, sweeps, ...`.

Its symbols are words here:

  word in the code                         paper                  shape
  width                                    m                      int
  dim                                      d                      int
  num_classes                              k                      int
  num_components (per class)               l                      int
  Params.w, hidden weights                 w_r                    (m, d)
  Params.a, output weights, never trained  a_{i,r}                (k, m)
  preactivations                           <w_r, x>               (n, m)
  pattern                                  1[<w_r, x> >= 0]       (n, m) bool
  logits                                   f_i(x)                 (n, k)
  pseudo_logits                            g_i(x)                 (n, k)
  residual                                 o_i - 1[i = y] = -v_i  (n, k)
  lr_times_width                           eta m                  float
  center_scale, noise_scale                sigma_0, sigma (data)  float
  separation, ratio                        delta, lambda          float
"""

__version__ = '0.1.0'
