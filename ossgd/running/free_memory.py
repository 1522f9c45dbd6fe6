"""Memory that a new run can have: of a device, or of the host."""

import jax

from ossgd.machine.memory import free as of_host


def of_device() -> int:
  """Bytes that a new run can have on each device."""
  stats = jax.local_devices()[0].memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit'] - stats['bytes_in_use']
  # Devices of a CPU share one memory.
  return of_host() // jax.local_device_count()
