"""Browsers that are signed in."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.tables import Owned


class BrowserSession(Owned):
    """A browser that showed a good key, or a link that will let one in once. It can do what that key can, while it can.

    Neither the key nor the session's own token is kept; the token's SHA-256 finds the row.
    """

    __tablename__ = "browser_sessions"

    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    is_link: Mapped[bool]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
