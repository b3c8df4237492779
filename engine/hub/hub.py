"""The Hugging Face Hub, or a server that answers like it: search, describe, and where files are.

What it answers is not trusted: a field of another type than it should have counts as missing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from engine.errors import AccessDenied, EngineError, NetworkError, NotFound
from engine.hub.part import Wanted
from engine.hub.repo import Format, Found, HubFile, Repo

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Sort = Literal["trending", "downloads", "likes", "updated"]
DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_CARD_BYTES = 1 << 20
_SORTS: dict[Sort, str] = {
    "trending": "trendingScore",
    "downloads": "downloads",
    "likes": "likes",
    "updated": "lastModified",
}
_FIELDS = ["downloads", "likes", "lastModified", "gated", "tags", "gguf", "safetensors"]
MAX_TEXT = 300
_MAX_FILES = 20_000
_ID = re.compile(r"[A-Za-z0-9._-]{1,96}(/[A-Za-z0-9._-]{1,96})?")


class Hub:
    """One server; `token` is told to it alone, never to where it redirects."""

    def __init__(self, token: str = "", endpoint: str = "", *, is_offline: bool = False) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT", "")).rstrip("/")
        self.endpoint = self.endpoint or DEFAULT_ENDPOINT
        self._token = token
        self._is_offline = is_offline
        self._is_offline_by_variable = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true")

    def search(
        self,
        text: str,
        *,
        sort: Sort = "trending",
        format: Format | None = None,
        license: str = "",
        limit: int = 30,
    ) -> Iterator[tuple[Found, ...]]:
        """Models whose names hold `text`, `limit` at a time; raises NetworkError, AccessDenied."""
        filters = ([format] if format else []) + ([f"license:{license}"] if license else [])
        asked: dict[str, str | int | list[str]] = {
            "search": text,
            "sort": _SORTS[sort],
            "filter": filters,
            "limit": limit,
            "expand": _FIELDS,
        }
        has_more = True
        while has_more:
            found, cursor = self._search_page(asked)
            yield found
            has_more, asked = bool(cursor), {**asked, "cursor": cursor}

    def _search_page(self, asked: Mapping[str, Any]) -> tuple[tuple[Found, ...], str]:
        """One page of a search, and the cursor of the next one if there is one."""
        from huggingface_hub import ModelInfo, get_session, hf_raise_for_status

        with self._errors():
            self._require_online()
            # Not `HfApi.list_models`: it asks a server that is not there for 23 seconds.
            answer = get_session().get(
                f"{self.endpoint}/api/models", params=asked, headers=self.headers(), timeout=30
            )
            hf_raise_for_status(answer)
            models: list[Any] = answer.json()
            if not isinstance(models, list):
                raise TypeError("no list of models")
            found = []
            for model in models:  # an odd one is left out, and spoils no other
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                    found.append(_found(ModelInfo(**model)))  # type: ignore[no-untyped-call]
            # Of the next page's address only the cursor: the rest might lead to another server.
            query = urlsplit(answer.links.get("next", {}).get("url", "")).query
            cursor = parse_qs(query).get("cursor", [""])[0]
            return tuple(model for model in found if _ID.fullmatch(model.id)), cursor

    def repo(self, repo_id: str, revision: str = "") -> Repo:
        """The files of a repository; raises NotFound, NetworkError, AccessDenied."""
        with self._errors(repo_id):
            model = self._api().model_info(
                repo_id, revision=revision or None, files_metadata=True, timeout=30
            )
            files = tuple(map(_file, (model.siblings or [])[:_MAX_FILES]))
            about = _found(model)
            commit = _text(model.sha)
            if not _ID.fullmatch(about.id):
                raise ValueError(f"no name of a model: {ascii(about.id)[:80]}")
            if not re.fullmatch(r"[0-9a-f]{40}", commit):
                raise ValueError(f"no commit: {ascii(commit)[:80]}")
        return Repo(about, commit, tuple(file for file in files if file))

    def card(self, repo: Repo) -> str:
        """The model card, Markdown without its front matter; empty where there is none."""
        if all(file.name != "README.md" for file in repo.files):
            return ""
        import httpx2

        with (
            self._errors(repo.id),
            httpx2.Client(follow_redirects=True, timeout=30) as client,
            client.stream("GET", self.url(repo, "README.md"), headers=self.headers()) as answer,
        ):
            answer.raise_for_status()
            text = b""
            for data in answer.iter_bytes():
                text += data
                if len(text) >= MAX_CARD_BYTES:
                    break
        card = text[:MAX_CARD_BYTES].decode("utf-8", "replace")
        return re.sub(r"\A---\s*\n.*?\n---\s*\n", "", card, count=1, flags=re.DOTALL)

    def wanted(self, repo: Repo, file: HubFile) -> Wanted:
        """What `transfer` needs to fetch `file`."""
        return Wanted(self.url(repo, file.name), file.size_bytes, file.digest)

    def url(self, repo: Repo, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(repo.id, name, revision=repo.revision, endpoint=self.endpoint)

    def page(self, repo_id: str) -> str:
        """The address of a model's page, for people."""
        return f"{self.endpoint}/{repo_id}"

    def headers(self) -> dict[str, str]:
        """What to send with a request for a file. A redirect elsewhere loses the token."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        self._require_online()
        return HfApi(endpoint=self.endpoint, token=self._token or False, library_name="snug")

    def _require_online(self) -> None:
        if self._is_offline:
            raise NetworkError(
                "Snug is in offline mode.", hint="Turn it off in Settings to use the hub."
            )
        if self._is_offline_by_variable:
            raise NetworkError(
                "The variable HF_HUB_OFFLINE keeps Snug offline.", hint="Unset it to use the hub."
            )

    @contextmanager
    def _errors(self, repo_id: str = "") -> Iterator[None]:
        """Errors of the library as ours."""
        import httpx2
        from huggingface_hub import errors

        try:
            yield
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            if isinstance(error, errors.GatedRepoError):
                raise access_denied(self.page(repo_id), str(error)) from error
            raise NotFound(
                f"There is no model {repo_id} on the hub, or it is private.",
                hint="Check its name. A private one needs an access token.",
                details=_first_line(error),
            ) from error
        except errors.HFValidationError as error:
            raise NotFound(
                f"{ascii(repo_id)[1:-1][:80]} is no name of a model.",
                hint="Write it as on the hub: owner/name.",
                details=_first_line(error),
            ) from error
        except (httpx2.HTTPStatusError, errors.HfHubHTTPError) as error:
            raise http_error(
                error.response.status_code, self.page(repo_id), _first_line(error)
            ) from error
        except (httpx2.HTTPError, errors.OfflineModeIsEnabled, OSError) as error:
            raise NetworkError(
                "The hub cannot be reached.",
                hint="Check the connection and try again. Your own models work without it.",
                details=_first_line(error),
            ) from error
        except ImportError as error:  # of the client, where a SOCKS proxy is set
            from engine.hub.connections import unusable_proxy

            raise unusable_proxy("SOCKS") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NetworkError(
                "The hub's answer makes no sense.",
                hint="Try again later.",
                details=f"{type(error).__name__}: {_first_line(error)}",
            ) from error


def access_denied(page: str, details: str = "") -> AccessDenied:
    return AccessDenied(
        "The owner of this model asks you to accept its terms first.",
        hint=f"Sign in and accept them at {page}, then give Snug an access token.",
        details=details,
    )


def http_error(status: int, page: str, details: str) -> EngineError:
    """The sentence for an answer that is no success; `page` is the model's."""
    if status in (401, 403):
        return access_denied(page, details)
    if status == 404:
        return NotFound("The hub does not have this.", hint="Check the name.", details=details)
    if status == 429:
        return NetworkError(
            "The hub says that it was asked too often.",
            hint="Wait some minutes. With an access token more is allowed.",
            details=details,
        )
    return NetworkError("The hub has trouble of its own.", hint="Try again later.", details=details)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def _found(model: Any) -> Found:
    tags = tuple(text for tag in (model.tags or ())[:200] if (text := _text(tag)))
    licences = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    updated = model.last_modified
    formats: tuple[Format, ...] = ("gguf", "safetensors")
    return Found(
        id=_text(model.id),
        downloads=_count(model.downloads),
        likes=_count(model.likes),
        updated=updated.date().isoformat() if updated else "",
        license=licences[0] if licences else "",
        is_gated=bool(model.gated),
        formats=tuple(f for f in formats if f in tags),
        n_params=_n_params(model),
        tags=tags,
    )


def _n_params(model: Any) -> int:
    for about in (model.gguf, model.safetensors):
        with contextlib.suppress(AttributeError, TypeError, KeyError):
            total = about["total"] if isinstance(about, dict) else about.total
            if n_params := _count(total):
                return n_params
    return 0


def _file(sibling: Any) -> HubFile | None:
    name, size = sibling.rfilename, sibling.size
    if not isinstance(name, str) or not name or type(size) is not int or size < 0:
        return None
    sha256 = _text(sibling.lfs.sha256 if sibling.lfs else "")
    if re.fullmatch(r"[0-9a-f]{64}", sha256):
        return HubFile(name, size, f"sha256:{sha256}")
    blob = _text(sibling.blob_id)
    return HubFile(name, size, f"git-sha1:{blob}" if re.fullmatch(r"[0-9a-f]{40}", blob) else "")


def _text(value: object) -> str:
    """`value` as it may be shown: without what would steer a terminal, and not for ever."""
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value[:MAX_TEXT] if char.isprintable())


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
