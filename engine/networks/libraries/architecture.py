"""Libraries of networks, and the protocol that fusiform's own and those of plug-ins keep to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from ...errors import UserError, shortened, users_code
from ...plugins import Plugins
from ...preprocessing import Preprocessing
from .given import own_preprocessing

_HERE = __name__.rpartition(".")[0]
LIBRARIES = Plugins(
    "fusiform.backbones",
    {
        "torchvision": f"{_HERE}.torchvision:find",
        "clip": f"{_HERE}.open_clip:find",
        "timm": f"{_HERE}.timm:find",
        "hf": f"{_HERE}.transformers:find",
        "demo": f"{_HERE}.demo:find",
    },
)
# A network and its preprocessing, why only the user can give that, or None where it is unknown.
Built = tuple[nn.Module, Preprocessing | UserError | None]


@dataclass(frozen=True)
class Architecture:
    """An architecture of a library, as the function of a plug-in returns it.

    Parameters
    ----------
    name : str
        Its full name, ``library:name``, as the store names it.
    untrained : callable
        Builds it with weights from torch's random numbers: a module, or a module and its
        :class:`fusiform.Preprocessing`. A ``UserError`` in place of that is raised where the user
        gives none.
    trained : callable, optional
        Builds it with the library's weights of a tag, and may download them.
    tags : list of str, optional
        The library's weights, the default first.
    tower : str, optional
        Name of this network inside a larger one that a checkpoint may hold.
    package : str, optional
        Installed package that computes it, whose version the store keeps.
    downloads : bool, optional
        False if ``trained`` only reads what is installed: it then needs neither a home folder nor a
        network.

    See Also
    --------
    load_backbone : Build a network by its name.

    Notes
    -----
    ``docs/how-to/plugins.md`` shows a whole plug-in.

    Examples
    --------
    >>> import torch
    >>> def find(name):
    ...     def untrained():
    ...         return torch.nn.Conv2d(3, int(name), 3), fusiform.Preprocessing()
    ...     return fusiform.Architecture(f"mine:{name}", untrained)
    >>> model, preprocessing = find("8").build()
    >>> model
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """

    name: str
    untrained: Callable[[], Built | nn.Module]
    trained: Callable[[str], Built | nn.Module] | None = None
    tags: list[str] = field(default_factory=list)
    tower: str = ""
    package: str = ""
    downloads: bool = True

    def tag(self, weights: str) -> str:
        """The library's tag that ``weights`` names; the default one for ``default``.

        Parameters
        ----------
        weights : str
            A tag, or ``default``.

        Returns
        -------
        str
            The tag.

        Raises
        ------
        UserError
            The tag is unknown, or the library has no weights.

        Examples
        --------
        >>> import torch
        >>> built = lambda tag=None: torch.nn.Conv2d(3, 8, 3)
        >>> one = fusiform.Architecture("mine:8", built, built, ["v1"])
        >>> one.tag("default")
        'v1'
        """
        if self.trained is None or not self.tags:
            raise UserError(
                f"weights of {self.name} are 'none' or a local file; got {weights!r}"
                + (": it has none of its own" if weights == "default" else ", which does not exist")
            )
        if weights.lower() == "default":
            return self.tags[0]
        if weights not in self.tags:
            raise UserError(
                f"weights are default, none, a local file, or a tag of {self.name} "
                f"({shortened(self.tags)}); got {weights!r}"
            )
        return weights

    def build(self) -> Built:
        """The untrained network and its preprocessing.

        Returns
        -------
        model : torch.nn.Module
            The network.
        preprocessing : Preprocessing, UserError or None
            Its preprocessing; the error to raise where the user gives none; None where it is
            unknown.

        Raises
        ------
        UserError
            The library, or the user's factory, raised an error or built no network.

        Examples
        --------
        >>> import torch
        >>> one = fusiform.Architecture("mine:8", lambda: torch.nn.Conv2d(3, 8, 3))
        >>> one.build()
        (Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1)), None)
        """
        with in_one_line(self.name):
            return self.checked(self.untrained())

    def checked(self, built: Any) -> Built:
        """The network and preprocessing that a library has built.

        Parameters
        ----------
        built : object
            The return value of ``untrained`` or ``trained``.

        Returns
        -------
        model : torch.nn.Module
            The network.
        preprocessing : Preprocessing, UserError or None
            Its preprocessing, as in :meth:`build`.

        Raises
        ------
        UserError
            The library has built something else.
        """
        match built:
            case nn.Module() as model:
                return model, own_preprocessing(model)
            case (nn.Module() as model, (Preprocessing() | UserError() | None) as preprocessing):
                return model, preprocessing
            case (*parts,):
                returned = ", ".join(type(part).__name__ for part in parts) or "nothing"
            case other:
                returned = type(other).__name__
        raise UserError(
            f"a network is built as a torch module, or a module and a fusiform.Preprocessing; "
            f"{self.name} returned {returned}"
        )


class Library(Protocol):
    """A library of networks: the function that an entry point of ``fusiform.backbones`` names."""

    def __call__(self, name: str, /) -> Architecture:
        """The architecture of this name, the text behind ``library:``.

        Raises
        ------
        UserError : unknown name
        """


def forms() -> str:
    """Forms of a network's name, for error messages."""
    return f"{', '.join(f'{name}:NAME' for name in LIBRARIES.names())} or package.module:factory"


def in_one_line(name: str) -> AbstractContextManager[None]:
    """Build the network ``name``, which may run a user's code; see :func:`..errors.users_code`."""
    return users_code(
        lambda kind, why: (
            f"the code of a network must run; that of {name} raised {kind} ({why}): fix it"
        )
    )
