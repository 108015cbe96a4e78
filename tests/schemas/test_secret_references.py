"""Secrets are named, never held."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.destinations import SecretError, SecretReference

SECRET = "hunter2-very-secret"


def test_a_secret_is_read_where_its_reference_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEBHOOK_KEY", SECRET)
    (tmp_path / "key").write_text(f"{SECRET}\n", encoding="utf-8")
    assert SecretReference(env="WEBHOOK_KEY").resolve() == SECRET
    assert SecretReference(file=str(tmp_path / "key")).resolve() == SECRET


def test_the_value_is_in_no_rendering_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_KEY", SECRET)
    reference = SecretReference(env="WEBHOOK_KEY")
    reference.resolve()
    for rendering in (repr(reference), str(reference), reference.model_dump_json(), str(pickle.dumps(reference))):
        assert "WEBHOOK_KEY" in rendering
        assert SECRET not in rendering


def test_a_secret_that_is_not_there_is_named_by_its_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" + SECRET.encode())
    for reference, words in (
        (SecretReference(env="NOT_SET"), "environment variable NOT_SET is not set"),
        (SecretReference(env="EMPTY"), "environment variable EMPTY is empty"),
        (SecretReference(file=str(tmp_path / "none")), "FileNotFoundError"),
        (SecretReference(file=str(tmp_path / "bytes")), "UnicodeDecodeError"),
    ):
        with pytest.raises(SecretError, match=words) as caught:
            reference.resolve()
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (SECRET, "by reference, not by value"),
        (["env", SECRET], "by reference, not by value"),
        ({}, "exactly one of env, file, secret_manager"),
        ({"env": "A", "file": "b"}, "exactly one of env, file, secret_manager"),
        ({"evn": SECRET}, "did you mean env"),
        ({"secret_manager": SECRET}, "pattern"),
    ],
)
def test_anything_but_one_reference_is_refused_without_repeating_it(given: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        SecretReference.model_validate(given)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.errors(include_url=False))


def test_secret_manager_reads_the_latest_version_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud import secretmanager

    asked = []

    class Client:
        def access_secret_version(self, name: str) -> object:
            asked.append(name)
            response = secretmanager.AccessSecretVersionResponse()
            response.payload.data = SECRET.encode()
            return response

    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", Client)
    for name in (
        "projects/p/secrets/s",
        "projects/p/secrets/s/versions/3",
        "projects/p/locations/europe-west1/secrets/s",
    ):
        assert SecretReference(secret_manager=name).resolve() == SECRET
    assert asked == [
        "projects/p/secrets/s/versions/latest",
        "projects/p/secrets/s/versions/3",
        "projects/p/locations/europe-west1/secrets/s/versions/latest",
    ]
