"""A server becomes a row of the user's registry: asked first, saved only where it fits."""

from dataclasses import dataclass

from dflash_app.errors import DFlashAppError, RegistryError, RequestError
from dflash_app.registry.custom import new_pair, read_server, suggest_name
from dflash_app.registry.pair import Pair
from dflash_app.workspace import Workspace

from .asking import TIMEOUT_S
from .capabilities import Capabilities
from .keys import find_key, forget_key, keep_key, split_credentials
from .probe import probe


@dataclass(frozen=True, slots=True)
class Typed:
    """What a user typed, trimmed; "" stands for nothing.

    Attributes:
        dflash_url: of the server that drafts.
        plain_url: of the one that does not, with the same model.
        model: the name under which both serve it.
        name: of the pair that is to be.
        key: of both servers; an address may hold it instead.
    """

    dflash_url: str = ""
    plain_url: str = ""
    model: str = ""
    name: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the servers told.

    Attributes:
        dflash: of the server that drafts, None where none was named.
        plain: of the one that does not, None where none was named.
        key: that was typed or stood in an address; None where none did.
    """

    dflash: Capabilities | None
    plain: Capabilities | None
    key: str | None

    @property
    def servers(self) -> list[Capabilities]:
        """Those that were named, one at least."""
        return [each for each in (self.dflash, self.plain) if each is not None]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that all of them serve."""
        first, *others = ([model.name for model in each.models] for each in self.servers)
        return tuple(name for name in first if all(name in other for other in others))


def ask_server(url: str, key: str = "", *, own_keys: bool = True) -> Capabilities:
    """Ask one server what it is; nothing is saved.

    Args:
        url: as typed; it may hold the key.
        key: of the server; "" looks for one where `own_keys` are looked for.
        own_keys: see `ask_servers`.

    Raises:
        RequestError: the address is none.
        DFlashAppError: the server does not answer, or refuses the key.
    """
    address, own = split_credentials(url)
    kept = find_key(None) if own_keys else None
    return probe(address, key or own or kept, timeout_s=TIMEOUT_S)


def ask_servers(typed: Typed, *, own_keys: bool) -> Asked:
    """Ask the servers that were named; nothing is saved.

    Args:
        typed: by the user.
        own_keys: look for a key in the environment and the keyring too. Not for what was typed into
            a page: whoever reaches it could have any address get the key.

    Raises:
        RequestError: an address is none, or no server was named.
        DFlashAppError: as `ask_server`, or one is not what it is named as.
    """
    urls = [url for url in (typed.dflash_url, typed.plain_url) if url]
    if not urls:
        raise RequestError("No server is named: give an address such as http://gpu-box:8000/v1.")
    keys = {key for key in (typed.key, *(split_credentials(url)[1] for url in urls)) if key}
    if len(keys) > 1:
        raise RequestError("Different keys are given, and a pair has one: give it once.")
    key = next(iter(keys), None)
    opens = key or (find_key(typed.name or None) if own_keys else None) or ""
    dflash, plain = (
        ask_server(url, opens, own_keys=own_keys) if url else None
        for url in (typed.dflash_url, typed.plain_url)
    )
    if dflash is not None and dflash.drafts is False:
        raise RegistryError(
            f"{dflash.host} decodes plainly: start it with a DFlash drafter (`dflash-app "
            "serve-plan` says how), or give it as the plain server."
        )
    if plain is not None and plain.drafts and not plain.can_switch_drafts:
        raise RegistryError(
            f"{plain.host} speculates, so it is no plain server: start one without a drafter, or "
            "leave it out."
        )
    return Asked(dflash, plain, key)


def new_row(typed: Typed, asked: Asked) -> Pair:
    """The registry's row for what was typed and told.

    Raises:
        RequestError: no model is chosen, or a server lacks it: the message lists what it has.
        RegistryError: the name is not allowed.
    """
    model = typed.model or _only_model(asked)
    for server in asked.servers:
        server.model(model)
    first, last = asked.servers[0], asked.servers[-1]  # the plain one is last, where there is one
    target = read_server(last.url, model)
    dflash = asked.dflash
    drafter = read_server(dflash.url, model, role="drafter") if dflash else None
    drafts = dflash.num_drafts if dflash else None
    name = typed.name or _suggest(suggest_name(target), first.host)
    return new_pair(name, target, drafter, block_size=drafts + 1 if drafts else None)


def add_server(workspace: Workspace, typed: Typed, asked: Asked) -> Pair:
    """Save a server in the user's registry, and its key in the keyring.

    Raises:
        RequestError, RegistryError: see `new_row` and `Workspace.add_pair`.
        DFlashAppError: the key cannot be kept; the message names the variable to set instead.
        In each case nothing is saved.
    """
    pair = new_row(typed, asked)
    workspace.add_pair(pair)
    if asked.key is not None and asked.key != find_key(pair.name):
        try:
            keep_key(pair.name, asked.key)
        except DFlashAppError:
            workspace.remove_pair(pair.name)
            raise
    return pair


def remove_server(workspace: Workspace, name: str) -> None:
    """Take a server out of the user's registry, and its key out of the keyring.

    Raises:
        RegistryError: the pair is on no server, or as `Workspace.remove_pair`.
        PairNotReady: it is in use.
    """
    if not workspace.registry.get(name).remote:
        raise RegistryError(
            f"Pair {name!r} is on no server: `dflash-app pairs remove` removes a local pair."
        )
    workspace.remove_pair(name)
    forget_key(name)


def _only_model(asked: Asked) -> str:
    models = asked.models
    if len(models) == 1:
        return models[0]
    if not models:
        served = "; ".join(
            f"{each.host}: {', '.join(model.name for model in each.models) or 'none'}"
            for each in asked.servers
        )
        raise RequestError(f"There is no model that is served for this pair ({served}): start one.")
    raise RequestError(f"Several models are served: choose one of {', '.join(models)}.")


def _suggest(model: str, host: str) -> str:
    """A name that tells a served model from one on this machine."""
    return f"{model}-at-{host.rpartition(':')[0].strip('[]').replace(':', '-') or host}"[:64]
