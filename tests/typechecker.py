"""How annotations are checked in tests: an int may stand for a float."""

import beartype

checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
