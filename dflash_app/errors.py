"""Every error that a user may meet. The message is one sentence that names the cure.

DFlashAppError
├── RequestError            the request itself is wrong: empty prompt, temperature out of range
│   └── PromptTooLong       the prompt does not fit the model's context
├── RegistryError           a registry file cannot be read (the message names file and line)
│   └── UnknownPair         no registry knows the name
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
└── ServeError              the page cannot be served (port in use)
"""


class DFlashAppError(Exception):
    """Base of every error whose text may be shown to a user as it is."""


class RequestError(DFlashAppError):
    """The request itself is wrong."""


class PromptTooLong(RequestError):
    """The prompt does not fit the model's context."""


class RegistryError(DFlashAppError):
    """A registry file cannot be read; the message names file and line."""


class UnknownPair(RegistryError):
    """No registry knows the pair."""


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


class ServeError(DFlashAppError):
    """The page cannot be served."""
