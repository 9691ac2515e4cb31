"""Every error that a user may meet. The message is one sentence that names the cure.

DFlashAppError
├── RequestError            the request itself is wrong: empty prompt, temperature out of range
│   ├── PromptTooLong       the prompt does not fit the model's context
│   └── QueueFull           too many wait for the device already, or too many of this visitor
├── RegistryError           a registry file cannot be read (the message names file and line)
│   └── UnknownPair         no registry knows the name
├── HubError                a download or a question to the hub failed (the message names the model)
│   ├── HubOffline          the hub cannot be reached, or HF_HUB_OFFLINE is set
│   ├── GatedModel          its licence must be accepted, and a token given
│   ├── DiskFull            no room for the files
│   └── ModelInUse          its files cannot be deleted: it is in memory, or being downloaded
├── PairNotReady            known, but not on this machine, planned, or not for this backend
├── LoadError               files are there but cannot become a model (corrupt, wrong shapes)
│   └── UnsupportedFormat   a drafter format or target family that is not implemented
├── BackendUnavailable      the device or its library is missing
├── GenerationFailed        the decode loop broke (out of memory included)
├── StoreError              the run database cannot be used
│   ├── StoreLocked         another program holds it
│   ├── StoreReadOnly       the file or its folder cannot be written
│   ├── StoreCorrupt        not a database, or damaged
│   └── StoreTooNew         written by a newer version of the app
├── PluginError             a plugin cannot be loaded
├── TrainingError           a training configuration or checkpoint is wrong
├── PlanError               a pair cannot be served as asked, or a local server cannot be started
└── ServeError              the page cannot be served (port in use)
"""


class DFlashAppError(Exception):
    """Base of every error whose text may be shown to a user as it is."""


class RequestError(DFlashAppError):
    """The request itself is wrong."""


class PromptTooLong(RequestError):
    """The prompt does not fit the model's context."""


class QueueFull(RequestError):
    """As many wait for the device as may; the message says at which place this one would be."""


class RegistryError(DFlashAppError):
    """A registry file cannot be read; the message names file and line."""


class UnknownPair(RegistryError):
    """No registry knows the pair."""


class HubError(DFlashAppError):
    """A download or a question to the hub failed."""


class HubOffline(HubError):
    """The hub cannot be reached from here now."""


class GatedModel(HubError):
    """The model's licence must be accepted at `url`, and a token given."""

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message)
        self.url = url


class DiskFull(HubError):
    """There is no room for the files."""


class ModelInUse(HubError):
    """The model's files are needed now."""


class PairNotReady(DFlashAppError):
    """The pair is known but cannot be loaded here now; the message says what is missing."""


class LoadError(DFlashAppError):
    """Files are there but cannot become a model."""


class UnsupportedFormat(LoadError):
    """A drafter format or a target family that is not implemented."""


class BackendUnavailable(DFlashAppError):
    """The device or its library is missing."""


class GenerationFailed(DFlashAppError):
    """The decode loop broke."""


class StoreError(DFlashAppError):
    """The run database cannot be used."""


class StoreLocked(StoreError):
    """Another program holds the database."""


class StoreReadOnly(StoreError):
    """The database file or its folder cannot be written."""


class StoreCorrupt(StoreError):
    """The file is no database, or damaged."""


class StoreTooNew(StoreError):
    """The database was written by a newer version of the app."""


class PluginError(DFlashAppError):
    """A plugin cannot be loaded."""


class TrainingError(DFlashAppError):
    """A training configuration or checkpoint is wrong."""


class PlanError(DFlashAppError):
    """A pair cannot be served by an engine as asked, or a local server cannot be started."""


class ServeError(DFlashAppError):
    """The page cannot be served."""
