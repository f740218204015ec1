"""Scanning writes stores; contrasts, queries and analyses read them."""

from .. import kernels
from .errors import UserError

kernels.Unable = UserError
