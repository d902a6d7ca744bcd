"""Install the five commands: `python -I -m kolla_start.commands --into /usr/local/bin`.

Run when an image is built, never at a start. A console script as pip writes it cannot carry the
interpreter's options, and without -I the PYTHONPATH of whoever calls sudo would decide what root
runs. So each command is a script of a few lines with the options in its first one:

    -I  isolated: no PYTHON* variable, no user site, no current directory (implies -E, -s, -P)
    -B  a start writes what its plan says, and no bytecode beside it
    -S  no site module: no .pth file is obeyed, and a start is some milliseconds shorter
    -X utf8  paths are the document's bytes, whatever the locale
"""

import argparse
import os
import sys
import sysconfig

ENTRIES = {
    "kolla_start": "kolla_start.start",
    "kolla_set_configs": "kolla_start.set_configs",
    "kolla_copy_cacerts": "kolla_start.cacerts",
    "kolla_install_projects": "kolla_start.projects",
    "kolla_config": "kolla_start.config",
}

_OPTIONS = "-IBSXutf8"
_LONGEST = 127  # bytes of a first line that every kernel reads whole, execve(2)


def launcher(module: str, interpreter: str, directories: list[str]) -> str:
    """The text of a command. Raises ValueError where the interpreter's path cannot be named."""
    first = f"#!{interpreter} {_OPTIONS}"
    if len(os.fsencode(first)) > _LONGEST:
        raise ValueError(
            f"{interpreter}: too long for the first line of a script ({_LONGEST} bytes); "
            "put the virtual environment at a shorter path"
        )
    if any(char.isspace() for char in interpreter):
        raise ValueError(
            f"{interpreter}: a blank cannot stand in the first line of a script; put the "
            "virtual environment at another path"
        )
    # Appended: nothing in these directories can stand before the standard library.
    path = "".join(f"sys.path.append({directory!r})\n" for directory in directories)
    return f"{first}\nimport sys\n\n{path}from {module} import main\n\nsys.exit(main())\n"


def install(into: str) -> list[str]:
    """Write the five commands, 0755, into a directory and return their paths.

    Raises ValueError and OSError.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Where the dependencies are: another directory than the package's in a checkout.
    directories = list(dict.fromkeys([package, sysconfig.get_path("purelib")]))
    made = []
    for name, module in ENTRIES.items():
        text = launcher(module, sys.executable, directories)
        path = os.path.join(into, name)
        unfinished = f"{path}.new"
        with open(unfinished, "w", encoding="utf-8", errors="surrogateescape") as script:
            script.write(text)
        os.chmod(unfinished, 0o755)  # noqa: S103 (commands are for all)
        os.replace(unfinished, path)
        made.append(path)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(prog="kolla_start.commands", description="Install commands")
    parser.add_argument("--into", required=True, metavar="DIRECTORY", help="e.g. /usr/local/bin")
    try:
        for path in install(parser.parse_args().into):
            print(path)
    except (ValueError, OSError) as problem:
        print(f"kolla_start.commands: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
