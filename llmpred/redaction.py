"""Hide credentials in texts that are kept or shown: errors, addresses, parameters."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 8  # characters; a shorter value would be found in innocent words

_KINDS = "TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_KEY|_PWD"
_SECRET_NAME = re.compile(rf"(?:{_KINDS})$")
# As `env`, Python's repr and JSON show a variable.
_ASSIGNED = re.compile(rf"\b([A-Z][A-Z0-9_]*(?:{_KINDS})['\"]?\s*[=:]\s*['\"]?)([^\s'\",;}}]+)")
# As a connection string, a file of credentials, JSON or a header has it. A name that ends in
# `token` alone is as often a tokenizer's.
_LOWER = re.compile(
    r"(?i)((?:\bpassword|\bpasswd|\bsecret|_password|_secret|secret_access_key|secret-access-key"
    r"|access_token|auth_token|api_key|api-key|apikey|security-token|session_token)"
    r"['\"]?\s*[=:]\s*['\"]?)([^\s'\",;}]+)"
)
_KNOWN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b")
# User and password of an address. A password may hold `/` or `@` where nobody encoded them; what
# follows a port is a path.
_CREDENTIALS = re.compile(
    r"(?<=://)(?:[^/@\s\"':]+:\d+/[^/@\s\"']*(?=@[^\s\"'/]*/)"  # digits and a slash, then a host
    r"|[^/@\s\"']*:(?!\d+/)[^\s\"']*|[^/@\s\"']+)@"
)
_SIGNATURE = re.compile(
    r"(?i)([?&][\w.-]*(?:token|secret|password|signature|credential|key|sig)[\w.-]*=)[^&\s\"']+"
)
_HEADER = re.compile(r"(?i)(\bauthorization\W{1,4}\w+\s+|\bbearer\s+)[\w.~+/=-]{16,}")


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `text` without credentials, as far as they can be told from other words.

    Hidden are user names, passwords and signatures of URLs, authorization headers, values behind
    the names of variables that hold secrets, and the secrets of the environment wherever they
    stand.
    """
    for secret in _secrets(environment):
        text = text.replace(secret, HIDDEN)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = _LOWER.sub(rf"\1{HIDDEN}", text)
    text = _KNOWN.sub(HIDDEN, text)
    text = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    text = _SIGNATURE.sub(rf"\1{HIDDEN}", text)
    return _HEADER.sub(rf"\1{HIDDEN}", text)


def redact_tracebacks() -> None:
    """Let what ends this process be printed without credentials."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = show


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Return the values of an environment that nobody else may see, longest first."""
    found = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name.upper()):
            found.add(value)
        address = re.match(r"[\w+.-]+://[^/@\s:]*:(.+)@", value)
        if address:
            found |= {address[1], unquote(address[1])}
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)
