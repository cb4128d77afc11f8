import json
import subprocess
import sys

import pytest

from llmpred.redaction import redact

SECRET = "s3cr3t/w1th+marks"
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "SHORT_TOKEN": "test",
    "TOKENIZERS_PARALLELISM": "parallel",
    "KEYBOARD": "keyboard",
    "DATABASE": "postgresql://me:pass%40word@db/x",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"the key {SECRET} is refused", "the key *** is refused"),
        ("login with pass@word failed", "login with *** failed"),
        ("login with pass%40word failed", "login with *** failed"),
        ("a test of the parallel keyboard", "a test of the parallel keyboard"),
        ("postgresql://me:a/b@c@host:1/db is down", "postgresql://***@host:1/db is down"),
        ("https://hf_abc@host/x", "https://***@host/x"),
        ("http://host:8080/a@b.csv", "http://host:8080/a@b.csv"),
        ("s3://bucket/a@b.csv", "s3://bucket/a@b.csv"),
        ("{'HF_TOKEN': 'hf_1', 'HOME': '/home/me'}", "{'HF_TOKEN': '***', 'HOME': '/home/me'}"),
        ('{"DB_PASSWORD": "p w"}', '{"DB_PASSWORD": "*** w"}'),
        ("PGPASSWORD=abc psql", "PGPASSWORD=*** psql"),
        ("pad_token='<pad>', max_tokens=5", "pad_token='<pad>', max_tokens=5"),
        ("Authorization: Bearer abcdefghijklmnop.q", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic YWJjZGVmZ2hpamts'}", "{'Authorization': 'Basic ***'}"),
        ("basic authentication of the bearer", "basic authentication of the bearer"),
        ("host=db user=me password=s3cretpass1 port=1", "host=db user=me password=*** port=1"),
        ('{"password": "abc", "n": 1}', '{"password": "***", "n": 1}'),
        ("aws_secret_access_key = wJalr/xUt", "aws_secret_access_key = ***"),
        ("x-amz-security-token: FwoGZXIv", "x-amz-security-token: ***"),
        ("postgresql://u:12/34abc@db/x", "postgresql://***@db/x"),
        ("the hub refuses hf_abcdefghijklmnopqrstuvwx", "the hub refuses ***"),
        ("eos_token: <eos>, pad_token = <pad>", "eos_token: <eos>, pad_token = <pad>"),
    ],
)
def test_what_is_hidden_and_what_is_not(text: str, shown: str) -> None:
    assert redact(text, ENVIRONMENT) == shown


def test_a_dump_of_the_environment_tells_no_secret() -> None:
    for dump in (json.dumps(ENVIRONMENT), repr(ENVIRONMENT)):
        hidden = redact(dump, {})  # of another machine
        assert SECRET not in hidden
        assert "pass%40word" not in hidden
        assert "keyboard" in hidden


def test_what_ends_a_process_is_printed_without_credentials() -> None:
    code = """
from llmpred.redaction import redact_tracebacks
redact_tracebacks()
raise RuntimeError("no answer from http://me:s3cr3t@host")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "http://***@host" in ended.stderr
    assert "RuntimeError" in ended.stderr.splitlines()[-1]
