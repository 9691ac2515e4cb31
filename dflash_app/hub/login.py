"""The user's token for gated models: huggingface_hub keeps it, this app does not.

It is never in our database, our log or an error's text.
"""

from dflash_app.errors import HubError
from dflash_app.hub.remote import within_limit

TOKENS_URL = "https://huggingface.co/settings/tokens"


def has_token() -> bool:
    """Whether the library knows a token: from HF_TOKEN or from an earlier login."""
    from huggingface_hub import get_token

    return get_token() is not None


def log_in(token: str) -> None:
    """Let the hub check a token, then keep it where huggingface_hub keeps tokens.

    Raises:
        HubError: it cannot be a token (asked nobody), or the hub refuses it; nothing was kept.
        HubOffline: the hub does not answer.
    """
    from huggingface_hub import login
    from huggingface_hub.errors import HfHubHTTPError

    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise HubError(
            f"A token has no spaces and no unusual characters: copy it again from {TOKENS_URL}."
        )

    def check() -> None:
        try:
            login(token=token, add_to_git_credential=False)
        except HfHubHTTPError as error:
            if error.response.status_code != 401:
                raise
            raise HubError(
                f"The hub does not know this token: copy it again from {TOKENS_URL}."
            ) from None  # the library's error holds the request
        except ValueError:
            raise HubError(f"This is no personal access token: make one at {TOKENS_URL}.") from None

    within_limit(check, "The hub's answer about the token")


def log_out() -> None:
    """Forget the token that `log_in` kept."""
    from huggingface_hub import logout

    if has_token():
        logout()
