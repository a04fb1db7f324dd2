"""A queue of Open edX for tests: a real HTTP server that speaks its protocol, as strictly as Django does.

The shapes are those of openedx/edx-submissions (`submissions/views/xqueue.py`): sessions and CSRF tokens in cookies,
form fields, JSON strings in JSON strings, honest statuses. The one whose status is the oldest is served first; one that
was pulled and not answered in time is served again with the same key and keeps its time, so that it is served before
all that came later until it is answered. A score that cannot be recorded sends a submission to the back, and after five
of them it has failed; the grader hears of success all the same.
"""

import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "grader", "pass word & more"


MAX_FAILURES = 5


@dataclass
class Item:
    number: int
    payload: object
    response: object
    time: float = field(default_factory=time.monotonic)  # of its status
    status: str = "pending"
    key: str = ""
    pulls: int = 0
    unscored: list = field(default_factory=list)
    results: list = field(default_factory=list)

    def turn(self, status):
        self.status, self.time = status, time.monotonic()

    def content(self):
        body = {
            "grader_payload": self.payload if isinstance(self.payload, str) else json.dumps(self.payload),
            "student_info": json.dumps(
                {"anonymous_student_id": "a1b2c3", "submission_time": "1795000000", "random_seed": 1}
            ),
            "student_response": self.response,
        }
        header = json.dumps({"submission_id": self.number, "submission_key": self.key})
        return json.dumps({"xqueue_header": header, "xqueue_body": json.dumps(body), "xqueue_files": "{}"})


class Queue(ThreadingHTTPServer):
    """Serves `items`; one that is not answered comes again after `patience` seconds.

    `faults` are for the next calls: path → list of statuses, "hang up", "refuse", "lose" or None (no fault).
    """

    daemon_threads = True

    def __init__(self, patience=300.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.patience = patience
        self.items, self.faults, self.calls = [], {}, []
        self.sessions, self.lock = set(), threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, response, grader="q3", *, payload=None):
        item = Item(100 + len(self.items), {"grader": grader} if payload is None else payload, response)
        self.items.append(item)
        return item

    def lapse(self, item):
        """Let the time pass that a submission has to be answered."""
        item.time -= self.patience

    def next(self):
        with self.lock:
            lapsed = time.monotonic() - self.patience
            waiting = [
                item
                for item in self.items
                if item.status in ("pending", "retry") or (item.status == "pulled" and item.time <= lapsed)
            ]
            if not waiting:
                return None
            item = min(waiting, key=lambda item: (item.time, item.number))
            item.pulls += 1
            if item.status != "pulled":
                item.turn("pulled")
                item.key = secrets.token_hex(8)
            return item.content()

    def accept(self, header, body):
        """Return the status and the words for a result."""
        try:
            named = json.loads(header)
            result = json.loads(body)
            score = result.get("score")
        except (ValueError, TypeError, AttributeError):
            return 400, "Incorrect reply format"
        found = [item for item in self.items if item.number == named["submission_id"]]
        if not found:
            return 404, "Submission does not exist"
        (item,) = found
        if not item.key or item.key != named["submission_key"]:
            return 403, "Incorrect key for submission"
        if type(score) is int and score >= 0:
            item.results.append(result)
            item.turn("retired")
        else:
            item.unscored.append(result)
            item.turn("failed" if len(item.unscored) >= MAX_FAILURES else "retry")
        return 200, ""

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Queue

    def answer(self):
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        what = parts.path.removeprefix("/xqueue/").strip("/")
        self.server.calls.append(f"{self.command} {what}")
        faults = self.server.faults.get(what, [])
        fault = faults.pop(0) if faults else None
        self.loses = fault == "lose"
        if fault == "hang up":
            self.close_connection = True
            return
        if fault == "refuse":
            self.refuse()
            return
        if fault not in (None, "lose"):
            self.reply(fault, "a fault", False)
            return
        cookies = SimpleCookie(self.headers.get("Cookie", ""))
        token = cookies["csrftoken"].value if "csrftoken" in cookies else None
        if self.command == "POST" and (token is None or self.headers.get("X-CSRFToken") != token):
            self.refuse()
            return
        known = "sessionid" in cookies and cookies["sessionid"].value in self.server.sessions
        form = {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
        if what == "login":
            self.log_in(form)
        elif not known:
            self.reply(401, "login_required", False)
        elif what == "get_submission" and self.command == "GET":
            assert parse_qs(parts.query) == {"queue_name": ["my queue"]}
            content = self.server.next()
            self.reply(200, "Queue 'my queue' is empty" if content is None else content, content is not None)
        elif what == "put_result" and self.command == "POST":
            assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
            status, words = self.server.accept(form["xqueue_header"], form["xqueue_body"])
            self.reply(status, words, status == 200)
        else:
            self.reply(404, "no such path", False)

    do_GET = do_POST = answer  # noqa: N815  # http.server names them

    def log_in(self, form):
        if self.command == "GET":
            self.reply(405, "Method not allowed", False, [f"csrftoken={secrets.token_hex(8)}; Path=/"])
        elif (form.get("username"), form.get("password")) != (USER, PASSWORD):
            self.reply(401, "Incorrect login credentials", False)
        else:
            session = secrets.token_hex(8)
            self.server.sessions.add(session)
            # As Django does, a login changes the token.
            cookies = [f"sessionid={session}; Path=/; HttpOnly", f"csrftoken={secrets.token_hex(8)}; Path=/"]
            self.reply(200, "Logged in", True, cookies)

    def reply(self, status, content, good, cookies=()):
        if self.loses:  # it was done, and nobody hears of it
            self.close_connection = True
            return
        text = json.dumps({"return_code": 0 if good else 1, "content": content}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(text)

    def refuse(self):
        """Answer as Django does where the token is missing: not in the queue's words."""
        page = b"<html>Forbidden: CSRF verification failed.</html>"
        self.send_response(403)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass
