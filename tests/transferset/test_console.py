import json

import pytest

from transferset.console import each_message_once, print_json, print_table, say, visible


def test_messages_go_to_stderr_with_controls_visible(capsys: pytest.CaptureFixture[str]) -> None:
    say("name\x1b]0;title\x07\r\udcff\u202e[bold]")
    out, err = capsys.readouterr()
    assert out == "" and err == "name\\x1b]0;title\\x07\\r\\udcff\\u202e[bold]\n"
    assert visible("a\tb\nc é 漢") == "a\tb\nc é 漢"
    say("a\nhint: b\tc")
    assert capsys.readouterr().err == "a\\nhint: b\\tc\n", "a name can't forge a line"


def test_what_stages_repeat_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with each_message_once():
        for _ in range(2):
            say("a copy")
            say("another")
    assert capsys.readouterr().err == "a copy\nanother\n"
    say("a copy")
    say("a copy")
    assert capsys.readouterr().err == "a copy\na copy\n"


def test_json_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": 1, "a": ["x\x1b"]})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": ["x\x1b"], "b": 1} and err == "" and "\x1b" not in out


def test_tables_show_everything_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 150
    print_table("[t]", ["name", "[red]n"], [["[bold]a", "1"], [long, "\x1b[31m"]])
    out = capsys.readouterr().out
    assert all(part in out for part in ("[t]", "[red]n", "[bold]a", long, "\\x1b[31m")) and "\x1b" not in out
