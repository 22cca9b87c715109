"""The fake mail server against a client that is not ours: smtplib."""

from __future__ import annotations

import smtplib

import pytest

from ml_assets_tests.fakes.mail import mail_server


def test_it_keeps_mails_as_they_were_sent() -> None:
    with mail_server() as box, smtplib.SMTP("127.0.0.1", box.port, timeout=5) as client:
        client.sendmail("a@x.example", ["b@x.example", "c@x.example"], "Subject: one\r\n\r\nfirst\r\n..dots\r\n")
        client.sendmail("a@x.example", ["b@x.example"], "Subject: two\r\n\r\nsecond\r\n")
    assert [mail["Subject"] for mail in box.mails] == ["one", "two"]
    assert box.receivers == [["b@x.example", "c@x.example"], ["b@x.example"]]
    assert box.mails[0].get_content().splitlines() == ["first", "..dots"]


def test_it_refuses_what_it_is_told_to_refuse() -> None:
    with mail_server() as box, smtplib.SMTP("127.0.0.1", box.port, timeout=5) as client:
        box.refuses = "MAIL"
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@x.example", ["b@x.example"], "Subject: one\r\n\r\nfirst\r\n")
    assert box.mails == []
