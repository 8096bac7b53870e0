"""Secrets of tenants at rest: AES-256-GCM under a master key of the operator's, bound to tenant and name.

A row that is copied to another tenant or name does not open. Each names the master key that it needs, so keys can be rotated:
put a new one first in the setting, restart, `scalpel admin secrets rotate`, and drop the old one.
"""

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.errors import SecretNotFound, SecretsNotConfigured, SecretUnreadable
from jobs.scope import is_owned, owned
from jobs.settings import Settings
from jobs.tables import Secret

KEY_BYTES = 32
NONCE_BYTES = 12  # random; safe for 2^32 encryptions under one key


class MasterKeys:
    """The operator's keys, the newest first; empty where none is configured."""

    def __init__(self, keys: Sequence[str]) -> None:
        decoded = [base64.b64decode(key.encode(), altchars=b"-_" if {"-", "_"} & set(key) else None) for key in keys]
        self._keys = {_key_id(key): AESGCM(key) for key in decoded}
        self._newest = next(iter(self._keys), None)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls([key.get_secret_value() for key in settings.secret_keys])

    @property
    def newest(self) -> str:
        """Id of the key that encrypts. Raises: SecretsNotConfigured."""
        if self._newest is None:
            raise SecretsNotConfigured
        return self._newest

    def encrypt(self, value: str, tenant_id: str, name: str) -> tuple[str, bytes]:
        """Returns: the key's id and the ciphertext. Raises: SecretsNotConfigured."""
        nonce = token_bytes(NONCE_BYTES)
        return self.newest, nonce + self._keys[self.newest].encrypt(nonce, value.encode(), _bound_to(tenant_id, name))

    def decrypt(self, secret: Secret) -> str:
        """Raises: SecretUnreadable: its key is not among these, or the row is not as it was written."""
        key = self._keys.get(secret.key_id)
        if key is None:
            raise SecretUnreadable(secret.name, f"its master key {secret.key_id} is not in SCALPEL_SECRET_KEYS")
        nonce, sealed = secret.ciphertext[:NONCE_BYTES], secret.ciphertext[NONCE_BYTES:]
        try:
            return key.decrypt(nonce, sealed, _bound_to(secret.tenant_id, secret.name)).decode()
        except InvalidTag as error:
            raise SecretUnreadable(secret.name, "its row was damaged or moved; store it again") from error


@dataclass(frozen=True)
class Rotation:
    """What a rotation did.

    Args:
        unreadable: secrets that were left as they are.
        in_use: id of each master key that secrets still need -> how many do.
        tenants: whose secrets were encrypted anew.
    """

    newest: str
    rotated: int
    unreadable: int
    in_use: Mapping[str, int]
    tenants: tuple[str, ...]


def new_master_key() -> str:
    return base64.urlsafe_b64encode(token_bytes(KEY_BYTES)).decode()


def put_secret(session: Session, keys: MasterKeys, tenant_id: str, name: str, value: str) -> None:
    """Keep it, in place of what was there. Raises: SecretsNotConfigured."""
    key_id, ciphertext = keys.encrypt(value, tenant_id, name)
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    content = {"key_id": key_id, "ciphertext": ciphertext, "created_at": datetime.now(UTC)}
    statement = insert(Secret).values(id=str(ULID()), tenant_id=tenant_id, name=name, **content)
    session.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "name"], set_=content))


def find_secret(session: Session, tenant_id: str, name: str) -> Secret | None:
    """The row as it lies there, unreadable."""
    query = owned(Secret, tenant_id).where(Secret.name == name).execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def read_secret(session: Session, keys: MasterKeys, tenant_id: str, name: str) -> str | None:
    """None where the tenant has none of this name. Raises: SecretUnreadable."""
    found = find_secret(session, tenant_id, name)
    return None if found is None else keys.decrypt(found)


def delete_secret(session: Session, tenant_id: str, name: str) -> None:
    """Raises: SecretNotFound."""
    statement = delete(Secret).where(is_owned(Secret, tenant_id), Secret.name == name).returning(Secret.id)
    if session.scalars(statement).one_or_none() is None:
        raise SecretNotFound(name)


def rotate(session: Session, keys: MasterKeys) -> Rotation:
    """Encrypt every secret with the newest key. One that is written meanwhile is left alone: it has that key already.

    Raises: SecretsNotConfigured.
    """
    unreadable = 0
    tenants: list[str] = []
    for secret in session.scalars(select(Secret).where(Secret.key_id != keys.newest).order_by(Secret.id)).all():
        try:
            value = keys.decrypt(secret)
        except SecretUnreadable:
            unreadable += 1
            continue
        key_id, ciphertext = keys.encrypt(value, secret.tenant_id, secret.name)
        unchanged = update(Secret).where(Secret.id == secret.id, Secret.ciphertext == secret.ciphertext)
        changed = unchanged.values(key_id=key_id, ciphertext=ciphertext).returning(Secret.tenant_id)
        tenants += session.scalars(changed.execution_options(synchronize_session=False)).all()
    return Rotation(keys.newest, len(tenants), unreadable, keys_in_use(session), tuple(dict.fromkeys(tenants)))


def keys_in_use(session: Session) -> dict[str, int]:
    """Id of each master key -> how many secrets need it."""
    counts = select(Secret.key_id, func.count()).group_by(Secret.key_id).order_by(Secret.key_id)
    return dict(session.execute(counts).all())


def with_local_keys(settings: Settings, *, make: bool = False) -> Settings:
    """The settings with the master keys of the data folder, where none are configured.

    Args: make: have them there, in a file of this user's own, if they are not.
    """
    if settings.secret_keys:
        return settings
    file = settings.secret_key_file
    if make and not file.exists():
        _write_privately(file, new_master_key())
    if not file.exists():
        return settings
    keys = tuple(SecretStr(line.strip()) for line in file.read_text(encoding="ascii").splitlines() if line.strip())
    return Settings.model_validate({**dict(settings), "secret_keys": keys})


def _write_privately(file: Path, key: str) -> None:
    """Whole or not at all; where another process was first, its key stays."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(key + "\n")
    try:
        os.link(partial, file)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"scalpel master key id" + key).hexdigest()[:16]


def _bound_to(tenant_id: str, name: str) -> bytes:
    return f"{tenant_id}/{name}".encode()
