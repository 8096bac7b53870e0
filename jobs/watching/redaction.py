"""Secrets taken out of text that will be read by others: logs above all."""

import re

HIDDEN = "[redacted]"
_RULES = (
    (re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|digest)\s+)?)[^\s\"',;]+"), rf"\g<1>{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}"), rf"\g<1>{HIDDEN}"),
    (re.compile(r"\b(scalpel_)[\w-]{8,}"), rf"\g<1>{HIDDEN}"),
    (re.compile(r"\b(whsec_)[A-Za-z0-9+/=]{8,}"), rf"\g<1>{HIDDEN}"),
    (re.compile(r"\b(hf_|api_org_)[A-Za-z0-9]{8,}"), rf"\g<1>{HIDDEN}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://[^\s:/?#\"']*:)[^\s/\"']+@"), rf"\g<1>{HIDDEN}@"),
    (re.compile(r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|token|api_key)=)[^&\s\"']+"), rf"\g<1>{HIDDEN}"),
    (
        re.compile(r"(?i)\b((?:api[_-]?key|password|secret|token)[\"']?\s*[=:]\s*[\"']?)(?!\[redacted)[^\s\"',;&]{6,}"),
        rf"\g<1>{HIDDEN}",
    ),
    (
        re.compile(r"(?i)\b(SCALPEL_(?:SECRET_KEYS|HUB_TOKEN|API_KEY|ARTIFACT_\w*KEY)[\"']?\s*[:=]\s*[\"']?)[^\s\"']+"),
        rf"\g<1>{HIDDEN}",
    ),
)


def redact(text: str) -> str:
    """Put `[redacted]` in the place of secrets: API keys, hub tokens, webhooks' secrets, `Authorization` headers, passwords
    and signatures in URLs, and secret settings.

    Doing it twice changes nothing more.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
