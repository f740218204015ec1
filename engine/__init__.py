"""From images to a store (``stimuli``, ``scanning``), and from a store to answers (``asking``)."""

from .. import kernels
from .errors import UserError

kernels.Unable = UserError
