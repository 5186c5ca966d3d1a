"""What the S3 libraries say, in our words."""

from __future__ import annotations

import re

from trainer_sdk.errors import JobError, NetworkError
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage.protocol import MissingObject

REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
CLOCKS = {"RequestTimeTooSkewed", "RequestExpired"}
BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "TooManyRequests", "429"}
"""What passes by itself, besides every other 5xx."""
DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"}
"""Of an upload: what arrived is not what was signed."""
FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
MISSING = {"404", "NoSuchKey", "NotFound"}
ITS_OWN_ERROR = "the storage answers with an error of its own: look at its log; the next start of the job tries again"
MANY_ATTEMPTS = "trying again later may help; if it does not, look for a proxy or a disk that damages data"


class DamagedTransfer(Exception):
    """A body that broke off or is not what was stored: worth another attempt."""


def explained(error: Exception, verb: str, where: str, settings: StorageSettings) -> Exception:
    """The library's error in our words; an error that is not the storage's passes as it is."""
    if isinstance(error, JobError):
        return error
    said = _said_by_boto(error) or _said_by_obstore(error)
    if said is None:
        return error
    code, text = said
    where = f"{where} at {settings.endpoint}"
    if code in MISSING and verb in ("read", "download"):
        return MissingObject(where)
    if code in REFUSED:
        keys = f"{settings.role}_STORAGE_ACCESS_KEY and {settings.role}_STORAGE_SECRET_KEY"
        hint = f"check {keys} and the key's rights on the bucket"
        return NetworkError(f"cannot {verb} {where}: refused ({code})", hint=hint, retryable=False)
    if code in CLOCKS:
        hint = "set the clock of this machine, or of the storage, right: requests are signed with the time"
        return NetworkError(f"cannot {verb} {where}: the clocks differ too much ({code})", hint=hint, retryable=False)
    if code in FULL:
        hint = "free space in the storage, or raise the quota"
        return NetworkError(f"cannot {verb} {where}: the storage is full ({code})", hint=hint)
    if code == "NoSuchBucket":
        problem = f"cannot {verb} {where}: the bucket does not exist"
        return NetworkError(problem, hint="create it, or name another", retryable=False)
    if code:
        return NetworkError(f"cannot {verb} {where}: {text}", hint=ITS_OWN_ERROR)
    default = "" if settings.from_environment else " (a default: it is not set)"
    hint = f"check {settings.role}_STORAGE_ENDPOINT{default} and that the storage runs"
    return NetworkError(f"cannot {verb} {where}: {text}", hint=hint)


def passing(error: Exception) -> bool:
    """Whether waiting may help: no connection, no answer, or a storage that is in trouble itself."""
    from botocore.exceptions import SSLError

    said = _said_by_boto(error) or _said_by_obstore(error)
    if said is None or isinstance(error, SSLError):
        return False
    code, text = said
    if code:
        return code not in FULL and (code in BUSY | DAMAGED or code.startswith("5") or _status(error, text) >= 500)
    return not re.search(r"(?i)certificate", text)


def answered(error: Exception) -> bool:
    """Whether it was the storage that said it."""
    return bool((_said_by_boto(error) or _said_by_obstore(error) or ("", ""))[0])


def gave_up(error: DamagedTransfer, attempts: int, verb: str, where: str, settings: StorageSettings) -> NetworkError:
    """Nothing usable came, however often it was asked for."""
    text = f"cannot {verb} {where} at {settings.endpoint}: {attempts} attempts, the last: {error}"
    return NetworkError(text, hint=MANY_ATTEMPTS)


def _said_by_boto(error: Exception) -> tuple[str, str] | None:
    """(the storage's code, or "" when it did not answer; text); None: not an error of this library."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, ClientError | BotoCoreError):
        error = error.__context__
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or "unknown", str(error)
    return ("", str(error)) if isinstance(error, BotoCoreError) else None


def _said_by_obstore(error: Exception) -> tuple[str, str] | None:
    """As above; this library has its answers in its text only, and raises Python's own error for a missing key."""
    from obstore.exceptions import BaseError

    if not isinstance(error, BaseError | FileNotFoundError):
        return None
    text, _, source = str(error).partition("\n\nDebug source")
    code = re.search(r"<Code>(\w+)</Code>", text) or re.search(r"status code: (\d{3})", text)
    return (code[1], text.partition("<?xml")[0].strip()) if code else ("", cause_in(source) or text)


def _status(error: Exception, text: str) -> int:
    """Of the answer; 0 for none."""
    response = getattr(
        error.__context__ if hasattr(error, "__context__") and error.__context__ else error, "response", None
    )
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = re.search(r"\b(?:status code|status)\W+(\d{3})\b", text)
    return int(told[1]) if told else 0


def cause_in(source: str) -> str:
    """What really happened, from obstore's account of it: 'Connection refused', 'InvalidCertificate UnknownIssuer'."""
    _, _, innermost = source.partition("inner:")
    quoted = re.findall(r'(?:message|error): "([^"]+)"', innermost)
    return quoted[-1] if quoted else " ".join(re.findall(r"\b[A-Z]\w+", innermost)[-2:])
