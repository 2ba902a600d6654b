"""Exits with 0 if this container answers: `health.py NAME_OF_THE_VARIABLE_WITH_THE_PORT PATH`."""

import http.client
import os
import sys

port, path = int(os.environ[sys.argv[1]]), sys.argv[2]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
# The name that the check of the proxy asks for, too (deploy/haproxy.cfg).
connection.request("GET", path, headers={"Host": "localhost"})
sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
