"""Everything a surface asks of the hub, about pairs by name."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dflash_app.errors import HubError, ModelInUse, PairNotReady
from dflash_app.hub.cache import PairState, pair_state, resolve
from dflash_app.hub.disk import (
    Removal,
    RepoUse,
    bytes_here,
    disk_use,
    plan_removal,
    remove,
    repo_folder,
)
from dflash_app.hub.drift import Drift, find_drift
from dflash_app.hub.job_store import Job
from dflash_app.hub.jobs import Downloads
from dflash_app.hub.known_pairs import PINS, load_rows
from dflash_app.hub.login import has_token
from dflash_app.hub.pins import write_pin
from dflash_app.hub.process import Wanted
from dflash_app.hub.remote import read_url
from dflash_app.hub.verify import FileCheck, discard_damaged, verify_folder
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.registry.rows import read_text
from dflash_app.registry.update import Proposal, propose, take

Role = Literal["target", "drafter"]
ROLES: tuple[Role, ...] = ("target", "drafter")
Status = Literal[
    "ready", "on server", "partial", "not downloaded", "gated", "planned", "not supported"
]

Held = Callable[[], AbstractContextManager[Pair | None]]
"""Yields the pair in memory, and lets none be loaded meanwhile."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A pair as the hub's list shows it; found without the network.

    Attributes:
        pair: the registry's row.
        status: "partial": some of its files are here; "gated": not here, and no token is known;
            "on server": there is nothing to download, and nobody was asked whether it answers.
        reason: one sentence with the cure; None where ready.
        here_bytes: what its repositories take on disk, other revisions included.
        weights_bytes: of both models by the registry; None where it does not tell.
        job: the download that was asked for last, if there was one.
    """

    pair: Pair
    status: Status
    reason: str | None
    here_bytes: int
    weights_bytes: int | None
    job: Job | None


class Hub:
    """Downloads, disk, checks and registry updates. Any thread may call it."""

    def __init__(
        self,
        home: Path,
        *,
        registry: Callable[[], Registry],
        reload: Callable[[], None],
        held: Held,
        cache_dir: Path | None = None,
    ) -> None:
        """Know what earlier runs left.

        Args:
            home: the user's folder.
            registry: the one in use.
            reload: reads it again.
            held: see `Held`.
            cache_dir: the hub's cache; None takes the library's own.
        """
        self._home = home
        self._registry, self._reload, self._held = registry, reload, held
        self._cache_dir = cache_dir
        self.jobs = Downloads(home / "downloads.db", pin=self._pin, cache_dir=cache_dir)

    def standing(self, pair: Pair, state: PairState | None = None) -> Standing:
        """What of a pair is here.

        Args:
            pair: a registry row.
            state: of `Workspace.state`, which knows the backends; None looks on disk only.
        """
        state = state or pair_state(pair, self._cache_dir)
        refs = [ref for ref in (pair.target, pair.drafter) if ref]
        here = sum(bytes_here(repo, self._cache_dir) for repo in _repos(refs))
        sizes = [ref.size_bytes for ref in refs]
        job = next((job for job in self.jobs.snapshot() if job.pair == pair.name), None)
        status: Status
        if pair.remote and state.status == "ready":
            status = "on server"
        elif state.status != "needs download":
            status = state.status
        elif here:
            status = "partial"
        else:
            gated = any(ref.gated for ref in refs) and not has_token()
            status = "gated" if gated else "not downloaded"
        known = sum(size for size in sizes if size) if all(sizes) else None
        return Standing(pair, status, state.reason, here, known, job)

    def download(self, name: str, roles: Sequence[Role] = ROLES) -> Job:
        """Queue the download of what a pair lacks, or join or resume the job there is.

        Where nothing is lacking, the job is done at once, and nobody is asked.

        Args:
            name: as in the registry.
            roles: which of its models.

        Raises:
            UnknownPair: no registry knows the name.
            PairNotReady: there is nothing to download: planned, a folder of this machine, or on a
                server.
            HubError: another process is downloading it.
        """
        pair = self._registry().get(name)
        if pair.status == "planned":
            raise PairNotReady(f"Pair {name!r} is planned, its drafter is not published.")
        if pair.remote:
            raise PairNotReady(_nothing_here(pair, "download"))
        wanted = [
            Wanted(ref.repo, ref.revision, role)
            for role, ref in self._models(pair, roles)
            if ref.repo is not None
        ]
        if not wanted:
            raise PairNotReady(f"Pair {name!r} is from a folder of this machine, not from the hub.")
        state = pair_state(pair, self._cache_dir)
        here = {"target": state.target_dir, "drafter": state.drafter_dir}
        lacking = [each for each in wanted if here[each.role] is None]
        return self.jobs.start(name, lacking) if lacking else self.jobs.add_done(name, wanted)

    def disk_use(self) -> tuple[RepoUse, ...]:
        """Every model repository in the cache, the largest first."""
        return disk_use(self._cache_dir)

    def plan_removal(
        self, name: str, roles: Sequence[Role] = ROLES, *, shared: bool = False
    ) -> Removal:
        """Compute what deleting a pair would free; see `remove`.

        Args:
            name: as in the registry.
            roles: which of its models.
            shared: True deletes a model that another pair, ready on this machine, uses too.

        Raises:
            UnknownPair: no registry knows the name.
            PairNotReady: it is on a server.
        """
        pair = self._registry().get(name)
        if pair.remote:
            raise PairNotReady(_nothing_here(pair, "delete"))
        chosen: list[tuple[str, str]] = []
        begun, kept = [], []
        for role, ref in self._models(pair, roles):
            if ref.repo is None:
                kept.append(f"The {role} is a folder of this machine and stays.")
                continue
            users = [] if shared else self._other_users(pair, ref.repo)
            if users:
                kept.append(f"{ref.repo} stays, because {', '.join(users)} needs it too.")
                continue
            snapshots = repo_folder(ref.repo, self._cache_dir).glob("snapshots/*")
            chosen += [(ref.repo, path.name) for path in snapshots if path.is_dir()]
            begun.append(ref.repo)
        return plan_removal(chosen, begun, kept, self._cache_dir)

    def discard_damaged(self, name: str, checks: Sequence[tuple[str, FileCheck]]) -> int:
        """Delete the damaged files of a pair, so that `download` brings them again.

        Args:
            name: as in the registry.
            checks: of `verify`.

        Returns:
            How many were deleted; the pair counts as partly here afterwards.

        Raises:
            ModelInUse: a model of it is in memory, or is being downloaded.
            PairNotReady: it is not here, or a pair is being loaded just now.
        """
        pair = self._registry().get(name)
        num_deleted = 0
        with self._not_in_use({repo for repo, _ in checks}):
            for _, ref in self._models(pair, ROLES):
                damaged = [check for repo, check in checks if repo == ref.repo]
                if damaged:
                    num_deleted += discard_damaged(resolve(ref, self._cache_dir), damaged)
        return num_deleted

    def remove(self, removal: Removal) -> int:
        """Delete what was planned; the bytes that the disk gained.

        Raises:
            ModelInUse: a model of it is in memory, or is being downloaded.
            PairNotReady: a pair is being loaded just now.
            HubError: a file cannot be deleted.
        """
        repos = {repo for repo, _ in removal.revisions} | set(removal.unfinished)
        with self._not_in_use(repos):
            return remove(removal, self._cache_dir)

    @contextmanager
    def _not_in_use(self, repos: set[str]) -> Iterator[None]:
        """Refuse where one of the models is needed now; none of them is loaded meanwhile."""
        with self._held() as pair:
            in_memory = repos & set(_repos([pair.target, pair.drafter])) if pair else set()
            if pair and in_memory:
                raise ModelInUse(
                    f"{min(in_memory)} is in memory as part of pair {pair.name!r}: choose another "
                    "pair first."
                )
            for job in (*self.jobs.snapshot(), *self.jobs.elsewhere()):
                busy = repos & self._repos_of(job) if job.live else set()
                if busy:
                    raise ModelInUse(
                        f"{min(busy)} is needed by the download of pair {job.pair!r}: cancel that "
                        "first."
                    )
            yield

    def verify(self, name: str, roles: Sequence[Role] = ROLES) -> Iterator[tuple[str, FileCheck]]:
        """Read a pair's files and compare their hashes: yields repository id and file.

        Args:
            name: as in the registry.
            roles: which of its models.

        Raises:
            UnknownPair: no registry knows the name.
            PairNotReady: a model of it is not here, or it is on a server.
        """
        pair = self._registry().get(name)
        if pair.remote:
            raise PairNotReady(_nothing_here(pair, "check"))
        for _, ref in self._models(pair, roles):
            if ref.repo is not None:
                for check in verify_folder(resolve(ref, self._cache_dir)):
                    yield ref.repo, check

    def drifts(self, name: str) -> tuple[Drift, ...]:
        """The models of a pair that are here at another revision only; see `config_changes`."""
        pair = self._registry().get(name)
        found = [find_drift(ref, self._cache_dir) for _, ref in self._models(pair, ROLES)]
        return tuple(drift for drift in found if drift)

    def propose_registry(self, source: str) -> Proposal:
        """Read and check a newer registry; nothing is taken yet.

        Args:
            source: a file, or an address that begins https://.

        Raises:
            RegistryError: it has an error (source and line named).
            HubError: the address cannot be read.
        """
        url = "://" in source
        text = read_url(source) if url else read_text(Path(source).expanduser(), optional=False)
        return propose(text, source, self._rows(), self._home)

    def take_registry(self, proposal: Proposal) -> None:
        """Use a proposed registry from now on; the user's own pairs stay as they are.

        Raises:
            RegistryError: it cannot be saved; the one before stays in use.
        """
        take(proposal, self._home, self._registry().paths[0])
        self._reload()

    def close(self) -> None:
        """Stop the download; it can be resumed after the next start."""
        self.jobs.close()

    def _repos_of(self, job: Job) -> set[str]:
        """What a job fetches, and what its pair has already."""
        registry = self._registry()
        known = (*registry.pairs, *registry.composed)
        rows = [pair for pair in known if pair.name == job.pair]
        refs = [ref for pair in rows for ref in (pair.target, pair.drafter)]
        return {each.repo for each in job.models} | set(_repos(refs))

    def _models(self, pair: Pair, roles: Sequence[Role]) -> list[tuple[Role, ModelRef]]:
        refs = {"target": pair.target, "drafter": pair.drafter}
        return [(role, ref) for role in ROLES if role in roles and (ref := refs[role])]

    def _other_users(self, pair: Pair, repo: str) -> list[str]:
        """Names of the other pairs that are complete here and hold the same repository."""
        return [
            repr(other.name)
            for other in self._registry().pairs
            if other.name != pair.name
            and repo in _repos([other.target, other.drafter])
            and pair_state(other, self._cache_dir).status == "ready"
        ]

    def _rows(self) -> Registry:
        """The registry without the recorded commits, which an update does not change."""
        bundled, *others = self._registry().paths
        return load_rows(self._home, bundled, others)

    def _pin(self, repo: str, commit: str) -> None:
        write_pin(self._home / PINS, repo, commit)
        self._reload()


def _nothing_here(pair: Pair, what: str) -> str:
    return (
        f"Pair {pair.name!r} runs on a server ({pair.target.server}), so there is nothing here to "
        f"{what}: it can be used as it is, and `dflash-app pairs remove` takes its row away."
    )


def _repos(refs: Sequence[ModelRef | None]) -> list[str]:
    return list(dict.fromkeys(ref.repo for ref in refs if ref and ref.repo))


def check_free(removal: Removal) -> None:
    """Refuse a removal that would delete nothing.

    Raises:
        HubError: nothing of it is on disk.
    """
    if not removal.revisions and not removal.unfinished:
        raise HubError(" ".join(["Nothing of it is on this machine.", *removal.kept]))
