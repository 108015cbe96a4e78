"""What every destination's options have in common, and how they name a secret without holding it.

A destination type (``transforms/deliver``) derives its options from `DestinationOptions`; the streams file is checked
against all of them as one union that ``type`` tells apart. Options are data: they travel in the graph and into job
specs, so they hold a `SecretReference` where a secret is needed, never the secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.definition import Definition

SECRET_MANAGER_FORM = r"^projects/[^/]+(/locations/[^/]+)?/secrets/[^/]+(/versions/[^/]+)?$"


class DestinationOptions(Definition):
    """Base of the options of one destination type. A subclass sets ``type: Literal["..."]`` and adds its fields.

    Unknown fields are errors. Fields that carry a secret are of type `SecretReference` (or a list or mapping of it).
    Instances are immutable and picklable.
    """

    type: str = Field(description="Type of the destination.")


class SecretError(Exception):
    """A secret that its reference names cannot be read. The message names the reference, never a value."""


class SecretReference(Definition):
    """Where a secret is kept: exactly one of an environment variable, a file, or Secret Manager.

    The value is read by `resolve`, in ``setup()`` on the worker that needs it, and is not kept here: dumps, repr,
    pickles and job specs show the reference only. A secret written into the definition itself is refused, and the
    error does not repeat it.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    env: str | None = Field(default=None, min_length=1, description="Name of an environment variable of the worker.")
    file: str | None = Field(
        default=None, min_length=1, description="Path of a file on the worker; its last line end is removed."
    )
    secret_manager: str | None = Field(
        default=None,
        pattern=SECRET_MANAGER_FORM,
        description="Google Secret Manager: projects/P/secrets/S, optionally with /versions/V (default: latest).",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_values(cls, given: Any) -> Any:
        if isinstance(given, (dict, SecretReference)):
            return given
        raise PydanticCustomError(
            "secret_by_value",
            "a secret is given by reference, not by value: {env: NAME}, {file: PATH} or "
            "{secret_manager: projects/P/secrets/S}",
        )

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretReference:
        if sum(place is not None for place in (self.env, self.file, self.secret_manager)) != 1:
            raise PydanticCustomError("secret_reference", "give exactly one of env, file, secret_manager")
        return self

    def __str__(self) -> str:
        """The reference in words, for messages."""
        if self.env is not None:
            return f"environment variable {self.env}"
        return f"file {self.file}" if self.file is not None else f"Secret Manager {self.secret_manager}"

    def resolve(self) -> str:
        """Read the secret now, on this machine.

        Returns:
          the secret's value. Keep it in memory of the worker only.

        Raises:
          SecretError: it is not there, empty, or may not be read.
        """
        value = self._from_environment() if self.env is not None else self._from_file_or_manager()
        if not value:
            raise SecretError(f"the secret in {self} is empty: store its value there")
        return value

    def _from_environment(self) -> str:
        value = os.environ.get(self.env or "")
        if value is None:
            raise SecretError(f"{self} is not set on this worker: set it, or name another reference")
        return value

    def _from_file_or_manager(self) -> str:
        if self.file is None:
            return _read_secret_manager(self.secret_manager or "", str(self))
        try:
            return Path(self.file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            # `from None`: a decoding error carries the bytes of the secret.
            raise SecretError(
                f"the secret in {self} cannot be read ({type(error).__name__}): check path and rights"
            ) from None


def _read_secret_manager(name: str, words: str) -> str:
    from google.api_core.exceptions import GoogleAPICallError  # only where the reference is used: import is slow
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import secretmanager

    version = name if "/versions/" in name else f"{name}/versions/latest"
    try:
        client = secretmanager.SecretManagerServiceClient()
        return client.access_secret_version(name=version).payload.data.decode("utf-8")
    except (GoogleAPICallError, GoogleAuthError, UnicodeDecodeError) as error:
        raise SecretError(
            f"the secret in {words} cannot be read ({type(error).__name__}): check its name and that the worker's "
            "service account has roles/secretmanager.secretAccessor"
        ) from None
