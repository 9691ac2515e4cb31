"""Servers as a backend: pairs whose models run elsewhere. What HTTP needs is imported at need."""

from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import LoadError
from dflash_app.registry.pair import REMOTE_BACKEND, Pair


class RemoteBackend:
    """`engine.protocol.Backend` on servers that speak OpenAI's protocol."""

    name = REMOTE_BACKEND

    def unavailable_reason(self) -> str | None:
        """None: whether a server is there is found out when a pair is loaded."""
        return None

    def load(self, pair: Pair, options: LoadOptions) -> LoadedPair:
        """Reach a pair's servers and check that they serve it; nothing is loaded here.

        Args:
            pair: its target and drafter are on servers.
            options: only `drafter` means anything to a server.

        Raises:
            PairNotReady: see `reaching.reach_pair`.
            LoadError: options that are the server's own affair.
        """
        from .reaching import reach_pair

        if options != LoadOptions(drafter=options.drafter, num_threads=options.num_threads):
            raise LoadError(
                "Device, precision and quantization are the server's own: leave them at their "
                "defaults."
            )
        return reach_pair(pair, drafting=options.drafter)
