"""`diffedit completion`: what a shell needs to complete the commands, options and files of `diffedit`."""

from __future__ import annotations

import argparse

from argcomplete.shell_integration import shellcode

HELP = "print the lines that let your shell complete diffedit's commands and options"
SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
bash:  echo 'eval "$(diffedit completion bash)"' >> ~/.bashrc
zsh:   echo 'eval "$(diffedit completion zsh)"' >> ~/.zshrc
fish:  diffedit completion fish > ~/.config/fish/completions/diffedit.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=SHELLS, help="your shell")


def run(args: argparse.Namespace) -> int:
    print(shellcode(["diffedit"], shell=args.shell))
    return 0
