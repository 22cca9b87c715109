"""Channels against real servers on loopback: what arrives, what is tried again, and what is refused before anything is sent."""

from __future__ import annotations

import json
import smtplib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ml_assets.lake import Store
from ml_assets.monitoring.alerts import Alert, AlertError, notify, standing
from ml_assets.monitoring.channels import Email, Files, Log, Webhook, channels, sent
from ml_assets_tests.fakes.mail import mail_server

NOW = datetime(2013, 6, 1, 7, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\nnot really"
ALERT = Alert(
    "late",
    "check",
    "late/drift_report:no_drift",
    "late/drift_report: no_drift failed",
    "temp has another unit since 2013-06-03. Look at the source.",
    NOW,
    numbers={"psi": 3.25, "rows": 900, "feature": "temp"},
    link="http://127.0.0.1:3000/assets/late/drift_report?view=checks",
    plot=PNG,
)


@dataclass
class Hook:
    """A web server that answers as it is told, then 200, and keeps what was posted."""

    url: str
    answers: list[int] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.posted.append(json.loads(body))
            code = found.answers.pop(0) if found.answers else 200
            if code == 0:
                self.close_connection = True  # the answer is lost
            else:
                self.send_response(code)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Hook(f"http://127.0.0.1:{server.server_address[1]}/secret")
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield found
        server.shutdown()


# -- log and files ---------------------------------------------------------------------------------------------------


def test_the_log_gets_one_line() -> None:
    lines: list[str] = []
    Log(lines.append).send(ALERT)
    assert lines == [f"warning: {ALERT.title}: {ALERT.text} {ALERT.link}"]


def test_files_are_numbered_and_read_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    end = replace(ALERT, resolved=True, plot=None)
    for one in (ALERT, end, replace(ALERT, problem="other")):
        Files(store).send(one)
    assert store.names("_alerts") == [
        f"_alerts/sent/{name}.json" for name in ("late/000001", "late/000002", "other/000001")
    ]
    assert sent(store, "late") == [ALERT, end] and sent(store, "nobody") == []


def test_of_two_writers_of_files_none_is_lost(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    threads = [threading.Thread(target=Files(store).send, args=[replace(ALERT, key=str(key))]) for key in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.key for one in sent(store, "late")) == [str(key) for key in range(8)]


# -- web hook --------------------------------------------------------------------------------------------------------


def test_a_web_hook_gets_text_numbers_link_and_plot(hook: Hook) -> None:
    Webhook(hook.url).send(ALERT)
    (posted,) = hook.posted
    assert (
        Alert.from_dict({name: value for name, value in posted.items() if name != "text"} | {"text": ALERT.text})
        == ALERT
    )
    for part in (ALERT.title, ALERT.text, "psi: 3.25", "rows: 900", "feature: temp", ALERT.link):
        assert part in posted["text"]


@pytest.mark.parametrize("answers", [[503], [429, 500], [0], [0, 502]])
def test_a_web_hook_is_tried_again(hook: Hook, answers: list[int]) -> None:
    waits: list[float] = []
    hook.answers = list(answers)
    Webhook(hook.url, sleep=waits.append).send(ALERT)
    assert len(hook.posted) == len(answers) + 1 and waits == [1.0, 2.0][: len(answers)]


@pytest.mark.parametrize(("answers", "posts"), [([404], 1), ([500, 500, 500], 3)])
def test_a_web_hook_that_refuses_is_an_error_that_keeps_the_address_secret(
    hook: Hook, answers: list[int], posts: int
) -> None:
    hook.answers = answers[:]
    channel = Webhook(hook.url, sleep=lambda _: None)
    with pytest.raises(AlertError, match=f"127.0.0.1 answered {answers[0]}") as raised:
        channel.send(ALERT)
    assert len(hook.posted) == posts
    assert "secret" not in str(raised.value) and "secret" not in repr(channel)


def test_nobody_listens(tmp_path: Path) -> None:
    channel = Webhook("http://127.0.0.1:9/secret", sleep=lambda _: None)
    with pytest.raises(OSError):
        channel.send(ALERT)
    store = Store(str(tmp_path))
    assert notify(store, [ALERT], [channel, Files(store)], now=NOW)
    assert len(sent(store, "late")) == 1 and standing(store)[0].missing == ("webhook",)


def test_a_server_that_hangs_is_left(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(OSError):
            Webhook(url, timeout=0.05, sleep=lambda _: None).send(ALERT)


# -- e-mail ----------------------------------------------------------------------------------------------------------


def test_a_mail_has_text_numbers_link_and_plot() -> None:
    with mail_server() as box:
        Email(f"smtp://127.0.0.1:{box.port}", "ml@x.example", ("a@x.example", "b@x.example")).send(ALERT)
    (mail,), body = box.mails, box.mails[0].get_body()
    assert mail["Subject"] == f"warning: {ALERT.title}" and box.receivers == [["a@x.example", "b@x.example"]]
    assert body is not None
    for part in (ALERT.text, "psi: 3.25", ALERT.link):
        assert part in body.get_content()
    (plot,) = mail.iter_attachments()
    assert plot.get_content_type() == "image/png" and plot.get_content() == PNG


def test_no_header_comes_from_data() -> None:
    title = "x\r\nBcc: everybody@x.example"
    with mail_server() as box:
        Email(f"smtp://127.0.0.1:{box.port}", "ml@x.example", ("a@x.example",)).send(replace(ALERT, title=title))
    assert box.mails[0]["Bcc"] is None and box.receivers == [["a@x.example"]]


def test_a_mail_that_is_refused_is_an_error_and_comes_later(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with mail_server() as box:
        channel = Email(f"smtp://127.0.0.1:{box.port}", "ml@x.example", ("a@x.example",))
        box.refuses = "RCPT"
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            channel.send(ALERT)
        notify(store, [ALERT], [channel], now=NOW)
        box.refuses = ""
        notify(store, [ALERT], [channel], now=NOW.replace(hour=8))
    assert len(box.mails) == 1 and len(list(box.mails[0].iter_attachments())) == 1


def test_a_server_without_tls_does_not_get_the_password() -> None:
    with mail_server() as box:
        channel = Email(f"smtp+starttls://me@127.0.0.1:{box.port}", "ml@x.example", ("a@x.example",), password="word")
        with pytest.raises(OSError):
            channel.send(ALERT)
    assert box.mails == [] and "word" not in repr(channel)


# -- settings --------------------------------------------------------------------------------------------------------


def test_the_environment_says_which(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    everything = {
        "ML_ASSETS_ALERTS": "email, webhook log file log",
        "ML_ASSETS_ALERTS_WEBHOOK": "https://hooks.example/x",
        "ML_ASSETS_ALERTS_SMTP": "smtps://me@mail.example",
        "ML_ASSETS_ALERTS_SMTP_PASSWORD": "word",
        "ML_ASSETS_ALERTS_FROM": "ml@x.example",
        "ML_ASSETS_ALERTS_TO": "a@x.example, b@x.example",
    }
    assert [one.name for one in channels(everything, store)] == ["email", "webhook", "log", "file"]
    assert [one.name for one in channels({}, store)] == ["log", "file"]
    assert channels({"ML_ASSETS_ALERTS": "none"}, store) == []


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"ML_ASSETS_ALERTS": "log pigeon"}, "no channel pigeon"),
        ({"ML_ASSETS_ALERTS": "webhook"}, "ML_ASSETS_ALERTS_WEBHOOK"),
        ({"ML_ASSETS_ALERTS": "webhook", "ML_ASSETS_ALERTS_WEBHOOK": "file:///etc/passwd"}, "address of the web"),
        ({"ML_ASSETS_ALERTS": "email"}, "ML_ASSETS_ALERTS_SMTP"),
        ({"ML_ASSETS_ALERTS": "email", "ML_ASSETS_ALERTS_SMTP": "smtp://mail.example"}, "ML_ASSETS_ALERTS_FROM"),
        (
            {
                "ML_ASSETS_ALERTS": "email",
                "ML_ASSETS_ALERTS_SMTP": "smtp://me@mail.example",
                "ML_ASSETS_ALERTS_SMTP_PASSWORD": "word",
                "ML_ASSETS_ALERTS_FROM": "a@x.example",
                "ML_ASSETS_ALERTS_TO": "a@x.example",
            },
            "in the clear",
        ),
    ],
    ids=["unknown", "no address", "a file", "no server", "no sender", "password in the clear"],
)
def test_a_channel_that_cannot_work_is_refused_by_name(tmp_path: Path, environ: dict[str, str], named: str) -> None:
    with pytest.raises(AlertError, match=named):
        channels(environ, Store(str(tmp_path)))
