"""The connections that the bytes of models come through, by the proxies and certificates set here.

By urllib3, and not by httpx2 as all that is asked of the hub: httpx2 takes a body apart in Python,
in pieces of 64 kB, at half the speed (tests/bench/bench_download.py).
"""

from __future__ import annotations

import ssl
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit

import truststore
import urllib3

from engine.errors import NetworkError

CONNECT_S = 15.0
MAX_REDIRECTS = 10


def open_pool(url: str, n: int, stalled_s: float) -> urllib3.PoolManager:
    """`n` connections for `url`; one without a byte for `stalled_s` is given up.

    Nothing is tried twice here. A redirect to another server is not told the token. Raises
    NetworkError for a proxy of another kind than HTTP.
    """
    options: dict[str, Any] = {
        "maxsize": n,
        "timeout": urllib3.Timeout(connect=CONNECT_S, read=stalled_s),
        "retries": urllib3.Retry(
            total=None,
            connect=0,
            read=0,
            status=0,
            other=0,
            redirect=MAX_REDIRECTS,
            respect_retry_after_header=False,
        ),
        "ssl_context": truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # the system's, as httpx2
    }
    if proxy := _proxy(url):
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise unusable_proxy(parts.scheme)
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login if login != ":" else None)
        pool: urllib3.PoolManager = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
    else:
        pool = urllib3.PoolManager(**options)
    # So that `clear` closes them at once: else they wait for the garbage collector.
    pool.pools.dispose_func = urllib3.HTTPConnectionPool.close
    return pool


def unusable_proxy(kind: str) -> NetworkError:
    return NetworkError(
        f"Snug cannot use the proxy that this computer is set to: it is of the kind {kind[:20]}.",
        hint="Name an HTTP proxy in HTTPS_PROXY, or take it out of the settings of the system.",
    )


def _proxy(url: str) -> str:
    """The proxy that the environment, or the system, names for `url`; "" for none."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all", "")
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"
