"""Every `diffedit …` that a page, a message or a docstring tells to type is one that the program understands."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from diffedit_backend.cli.program import build_parser
from diffedit_bench.command import benchmarks

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SOURCES = sorted(
    path
    for room in ("protocol", "backend", "krita_plugin", "docs", "tests")
    for path in (ROOT / room).rglob("*")
    if path.suffix in {".py", ".html", ".md"} and path.name != "Manual.html" and "_vendor" not in path.parts
)
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)
_SPAN = re.compile(r"`([^`\n]+)`|<code>([^<\n]+)</code>")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_END = {"&&", "||", "|", "&", ";", ">", "<"}
# Options of other programs that a page names by themselves.
OTHERS = {"--include-dashboard"}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return next(dict(action.choices) for action in actions if isinstance(action, argparse._SubParsersAction))


def parsers() -> dict[str, argparse.ArgumentParser]:
    """By `edit`, `bench speed` and so on."""
    found = subparsers()
    for name, module in benchmarks().items():
        found[f"bench {name}"] = argparse.ArgumentParser(prog=f"diffedit bench {name}")
        module.add_arguments(found[f"bench {name}"])
    return found


def shell_lines(language: str, body: str) -> Iterator[str]:
    """The lines of a code block that a shell, systemd or docker reads, whole ones."""
    whole = body.replace("\\\n", " ").splitlines()
    if language == "console":
        yield from (line[2:] for line in whole if line.startswith("$ "))
    elif language == "ini":
        yield from (line.removeprefix("ExecStart=") for line in whole if line.startswith("ExecStart="))
    elif language == "dockerfile":
        arrays = [json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", body, re.M)]
        yield shlex.join(word for array in arrays for word in array)
        yield from re.findall(r"^HEALTHCHECK .*? CMD (.*)$", body, re.M)
    elif language in {"sh", "yaml"}:
        yield from whole
    elif not language:
        yield from (line for line in whole if line.startswith("diffedit "))


def commands(line: str, names: set[str]) -> Iterator[list[str]]:
    """The arguments of each `diffedit` of a shell line, the words before it (sudo, env, unshare) left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    simple: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _END:
            simple.append(word)
            continue
        programs = [place for place, found in enumerate(simple) if found == "diffedit" or found.endswith("/diffedit")]
        for place in programs:
            arguments = simple[place + 1 :]
            if place == 0 or (arguments and arguments[0] in names):
                yield arguments
        simple = []


def documented() -> Iterator[tuple[Path, list[str]]]:
    names = set(subparsers())
    for page in PAGES:
        for language, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in shell_lines(language, body):
                yield from ((page, command) for command in commands(line, names))


def faults(command: list[str], known: dict[str, argparse.ArgumentParser]) -> list[str]:
    """Why the program would not take `command`. A shortened option is a fault too: a later one may begin alike."""
    name = command[0] if command else ""
    if name == "bench" and len(command) > 1:
        name, rest = f"bench {command[1]}", command[2:]
    else:
        rest = command[1:]
    if name.startswith("-"):
        return [] if name in {"--version", "--help"} else [f"no option {name}"]
    if name not in known:
        return [f"no command {name!r}"]
    try:
        known[name].parse_args(rest)
    except SystemExit:
        return ["refused by the parser"]
    options = known[name]._option_string_actions
    return [f"no option {word}" for word in rest if word.startswith("--") and word.partition("=")[0] not in options]


def test_the_pages_have_the_commands_that_this_file_reads() -> None:
    found = [(page.name, command[0]) for page, command in documented()]
    assert len(found) > 25
    # One of each notation: a shell's, a console's with its prompt, a unit's, an image's, one behind sudo and env.
    assert {("first-edit.md", "edit"), ("walk-through.md", "serve"), ("quality.md", "bench")} <= set(found)
    assert [name for page, name in found if page == "remote.md"].count("serve") >= 5
    assert ("remote.md", "status") in found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sudo -u diffedit env A=/b /opt/diffedit/bin/diffedit status  # all of it", [["status"]]),
        ("docker run -d --name diffedit --memory 24g diffedit", []),
        ("docker exec diffedit diffedit invite anna --host box:1", [["invite", "anna", "--host", "box:1"]]),
        ("diffedit status > /dev/null && diffedit clients", [["status"], ["clients"]]),
        ("diffedit nonsense", [["nonsense"]]),
    ],
)
def test_a_shell_line_is_read_as_a_shell_reads_it(line: str, expected: list[list[str]]) -> None:
    assert list(commands(line, set(subparsers()))) == expected


@pytest.mark.parametrize(
    "command", ["nonsense", "edit a b --masks-out c", "edit a b --thresh 1", "bench speed", "serve x"]
)
def test_a_command_that_the_program_does_not_take_is_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(command.split(), parsers())
    capsys.readouterr()


def test_every_command_in_a_code_block_is_taken_by_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    known = parsers()
    wrong = [
        f"{page.name}: diffedit {shlex.join(command)}: {', '.join(found)}"
        for page, command in documented()
        if (found := faults(command, known))
    ]
    assert not wrong, "\n".join([*wrong, capsys.readouterr().err])


def test_every_command_that_a_sentence_or_a_message_names_has_the_options_that_it_names() -> None:
    known = parsers()
    wrong = []
    for path in sorted({*SOURCES, *PAGES}):
        for span in _SPAN.findall(_BLOCK.sub("", path.read_text(encoding="utf-8"))):
            words = "".join(span).split()
            if words[:1] != ["diffedit"] or len(words) < 2 or not re.fullmatch(r"[a-z-]+", words[1]):
                continue
            named = words[1] if words[1] != "bench" else " ".join(words[1:3])
            if words[1] == "--version" or named in {"bench NAME", "bench"}:
                continue
            if named not in known:
                wrong.append(f"{path.relative_to(ROOT)}: no command: {' '.join(words)}")
                continue
            options = known[named]._option_string_actions
            wrong += [
                f"{path.relative_to(ROOT)}: no option {option}: {' '.join(words)}"
                for option in _OPTION.findall(" ".join(words))
                if option not in options
            ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_by_itself_is_one_of_the_program(page: Path) -> None:
    every = {option for parser in parsers().values() for option in parser._option_string_actions}
    spans = ["".join(span) for span in _SPAN.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))]
    named = {option for span in spans if span.startswith("--") for option in _OPTION.findall(span)}
    assert named - OTHERS <= every


def test_every_target_of_make_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M))
        assert named <= targets, page.name
