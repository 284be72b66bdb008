"""A server on this machine that speaks the few endpoints of the Hub that sending and fetching a folder need.

Written from the public descriptions of the API (https://huggingface.co/docs/hub/api) and from what the client asks
for; it holds each repository as a list of commits, each a dictionary from file names to bytes.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """The server and what it holds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: set[str] = set()
        self.messages: list[str] = []
        self.unknown: list[str] = []  # requests that nothing here answers
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        commits = self.repositories.setdefault(name, [])
        sha = hashlib.sha1(f"{name}{len(commits)}".encode()).hexdigest()
        commits.append((sha, {**(commits[-1][1] if commits else {}), **files}))
        return sha

    def files(self, name: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(name, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str, words: str) -> None:
        self.answer(status, {"error": words}, {"X-Error-Code": code, "X-Error-Message": words})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self.describe(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.tree(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*found.groups())
        else:
            self.server.unknown.append(f"{self.command} {path}")
            self.refuse(404, "NotFound", "no such page")

    def known(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if name not in self.server.repositories:
            self.refuse(404, "RepoNotFound", "Repository not found")
            return None
        found = self.server.files(name, revision)
        if found is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def describe(self, name: str, revision: str) -> None:
        found = self.known(name, revision)
        if found is not None:
            siblings = [{"rfilename": file} for file in found[1]]
            self.answer(
                200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings, "private": False}
            )

    def tree(self, name: str, revision: str) -> None:
        found = self.known(name, revision)
        if found is not None:
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in found[1].items()
            ]
            self.answer(200, entries)

    def resolve(self, name: str, revision: str, file: str) -> None:
        found = self.known(name, revision)
        if found is None:
            return
        if file not in found[1]:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        data = found[1][file]
        self.answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": found[0]})

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "Unauthorized", "Invalid username or password.")
        elif path == "/api/validate-yaml":  # the header of the model card
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/[^/]+", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in files
            ]
            self.answer(200, {"files": modes})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            self.take(found[1], [json.loads(line) for line in body.decode().splitlines() if line])
        else:
            self.server.unknown.append(f"POST {path}")
            self.answer(200, {})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
        if name in self.server.repositories:
            self.answer(
                409, {"error": "You already created this model repo", "url": f"{self.server.address}/{name}"}
            )
            return
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(name)
        self.server.commit(name, {".gitattributes": b""})
        self.answer(200, {"url": f"{self.server.address}/{name}", "name": name})

    def take(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        self.server.messages += [line["value"]["summary"] for line in lines if line["key"] == "header"]
        sha = self.server.commit(name, files)
        self.answer(200, {"commitUrl": f"{self.server.address}/{name}/commit/{sha}", "commitOid": sha})
