#!/bin/sh
# HAProxy 2.6.12 (Debian 12): `http-error status 408` and `http-error status 503` name a text in place of HAProxy's pages,
# once by `string`, once by `lf-string`, once by `errorfile`. A client sends half of a request's header, and is given up
# by `timeout http-request`; another asks while no server is there.
# Expected: the 408 and the 503 both have the text of their `http-error`.
# Seen: the 503 has it in each form. The 408 is HAProxy's page in HTML in each form: the multiplexer of HTTP/1.1 answers by
# itself while there is no whole request, and does not ask for what the proxy section says. The configuration is accepted
# without a warning. Releases from 3.3 on use `errorfile` there, and no other form (HAProxy's issue 3032).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download haproxy=2.6.12-1+deb12u4 liblua5.3-0=5.3.6-2 libopentracing1=1.6.0-4 >/dev/null 2>&1
apt-get download libopentracing-c-wrapper0=1.1.3-3+b1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH="$folder/usr/lib/$(uname -m)-linux-gnu"
"${PYTHON:-python3}" - <<'PYTHON'
import socket
import subprocess
import time
from pathlib import Path

FORMS = {
    "string": "content-type text/plain string ours-{status}",
    "lf-string": "content-type text/plain lf-string ours-{status}-%[src]",
    "errorfile": "errorfile {status}.http",
}
CONFIGURATION = """
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
    timeout http-request 1s
    http-error status 408 {slow}
    http-error status 503 {away}
frontend all
    bind 127.0.0.1:{port}
    default_backend none
backend none
"""


def answer(port: int, request: bytes) -> str:
    for _ in range(100):
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    with client:
        client.sendall(request)
        received = b""
        while more := client.recv(4096):
            received += more
    return received.decode()


for status in ("408", "503"):
    Path(f"{status}.http").write_text(f"HTTP/1.1 {status} Ours\nContent-Type: text/plain\nConnection: close\n\nours-{status}\n")
for form, line in FORMS.items():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    Path("haproxy.cfg").write_text(
        CONFIGURATION.format(slow=line.format(status=408), away=line.format(status=503), port=port)
    )
    haproxy = subprocess.Popen(["usr/sbin/haproxy", "-db", "-f", "haproxy.cfg"], stderr=subprocess.DEVNULL)
    try:
        away = answer(port, b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
        slow = answer(port, b"GET / HTTP/1.1\r\nHost: exam")
    finally:
        haproxy.terminate()
        haproxy.wait()
    assert " 503 " in away.splitlines()[0] and "ours-503" in away, f"{form}: the 503 is another one: {away!r}"
    assert " 408 " in slow.splitlines()[0], f"{form}: the slow request got {slow!r}"
    assert "ours-408" not in slow and "<html>" in slow, f"{form} is used for the 408 now: {slow!r}"
print("as seen")
PYTHON
