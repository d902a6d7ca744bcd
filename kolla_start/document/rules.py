"""What the values of a document must look like: one predicate for each form.

On the container-start path: the standard library alone, and of it only `re` for a document whose
`exclude` needs it. The models (models.py) and the judge, by the table generated from them, both
call these, so that a rule is written once. A predicate returns None where the value is good, else
"what is wrong; what to do". A remark is the same about a value that a start takes all the same. It
knows no filesystem and no user database: whether a thing exists is for the plan to find out.
"""

from __future__ import annotations

from kolla_start.disk.source import MOUNTED
from kolla_start.document.text import parse_json

# A source that is a way to say "an empty file" (null(4)).
NULL = "/dev/null"

# Where this program keeps its records (records.py): no document may write there. See also keep().
RECORDS = ("/etc/kolla/defaults", "/etc/kolla/options", "/run_command", "/configured", "/run/kolla")

# What comes with the image's system and holds more than one service's files (hier(7)). Files may
# be put into them, and trees merged; nothing may take their place.
STANDARD = frozenset(
    """
    / /bin /boot /dev /etc /home /lib /lib32 /lib64 /libx32 /media /mnt /opt /proc /root /run /sbin
    /srv /sys /tmp /usr /var
    /dev/shm /etc/alternatives /etc/apt /etc/ca-certificates /etc/default /etc/init.d /etc/pam.d
    /etc/pki /etc/profile.d /etc/security /etc/skel /etc/ssl /etc/ssl/certs
    /etc/sudoers.d /etc/systemd /run/lock
    /usr/bin /usr/etc /usr/games /usr/include /usr/lib /usr/lib32 /usr/lib64 /usr/libexec
    /usr/libx32 /usr/local /usr/local/bin /usr/local/etc /usr/local/lib /usr/local/libexec
    /usr/local/sbin /usr/local/share /usr/sbin /usr/share /usr/share/ca-certificates /usr/src
    /var/cache /var/lib /var/lib/dpkg /var/lib/kolla /var/lib/kolla/venv /var/lib/rpm /var/local
    /var/lock /var/log /var/log/kolla /var/mail /var/opt /var/run /var/spool /var/tmp
    """.split()
)

# In the order of their numbers (linux/capability.h).
CAPABILITIES = tuple(
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()
)

# What stands for true beside true itself: real documents have it, and the program being replaced
# takes any string for true.
TRUE = ("true", "True", "yes")

_BLANKS = " \t\n"  # the shell's
_NO_PUNCTUATION = str.maketrans("", "", "/_-:,=@%~")  # what means itself in a regular expression
_LARGEST_ID = 2**32 - 2  # the next one means "leave it alone" to chown(2)


_HALF_PAIR = r"holds half a surrogate pair (\ud800 to \udfff); write the character itself"


# --- one value ---------------------------------------------------------------------------------


def text(value: str) -> str | None:
    """A string that a system call can carry: no NUL, and all of it can be encoded."""
    if "\0" in value:
        return "holds a NUL character, which no path or argument can carry; remove it"
    return None if value.isascii() else key(value)


def comment(key: str) -> bool:
    """Whether a key is a person's comment, or an editor's `$schema`."""
    return key.startswith(("_", "$"))


def key(value: str) -> str | None:
    """A key that nobody knows: a string that can be printed and encoded."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return _HALF_PAIR
    return None


def path(value: str) -> str | None:
    """An absolute path, not a pattern's way around: no `.` or `..` component."""
    problem = source(value)
    if problem is None and "/." in value and not {".", ".."}.isdisjoint(value.split("/")):
        problem = f"{value!r} has a . or .. in it; write the path without"
    return problem


def source(value: str) -> str | None:
    """An absolute path or shell pattern (glob(7))."""
    if not value:
        return "is empty; write an absolute path"
    problem = text(value)
    if problem is None and not value.startswith("/"):
        problem = f"{value!r} is not absolute; begin it with /"
    if problem is None and len(value) > 1023 and len(value.encode()) > 4095:
        problem = "is longer than 4095 bytes, the longest path that Linux knows; shorten it"
    return problem


def made_path(value: str) -> str | None:
    """The path of a directory that is to be made: a name, no pattern."""
    problem = path(value)
    if problem is None and any(char in value for char in "*?["):
        problem = f"{value!r} is a pattern; name each path"
    return problem


def made_file(value: str) -> str | None:
    """The path of a file that is to be made."""
    problem = made_path(value)
    if problem is None and value.endswith("/"):
        problem = f"{value!r} ends in /, a directory; name a file"
    return problem


def perm(value: str) -> str | None:
    """Three or four octal digits, with or without 0o."""
    digits = value.removeprefix("0o")
    if len(digits) in (3, 4) and not digits.strip("01234567"):
        return None
    return f'{value!r} is not a mode; write 3 or 4 octal digits, as in "0640"'


def number_as_perm(value: int) -> str:
    """What to write in place of a number, by how it probably came about."""
    digits, converted = str(value), f"{value:o}" if value >= 0 else ""
    asked = digits.zfill(4) if _likely_mode(digits) else ""
    octal = converted.zfill(4) if _likely_mode(converted) else ""
    if octal and not asked:
        return f'is a number: YAML reads an unquoted {octal} as {value}; write "{octal}"'
    if octal:
        return f'is a number; write "{asked}", or "{octal}" if it was an unquoted {octal} in YAML'
    if asked:
        return f'is a number; write "{asked}"'
    return 'is a number; write 3 or 4 octal digits in quotes, as in "0640"'


def _likely_mode(digits: str) -> bool:
    """Whether anybody means this: the owner may read, and nobody may more than those before."""
    if perm(digits) is not None:
        return False
    user, group, others = (int(digit) for digit in digits[-3:])
    return bool(user & 4) and not group & ~user and not others & ~group


def octal_perm(value: float) -> str:
    """What to write in place of any number or boolean."""
    if type(value) is int:
        return number_as_perm(value)
    kind = "boolean" if type(value) is bool else "number"
    return f'is a {kind}; write 3 or 4 octal digits in quotes, as in "0640"'


def flag(value: str) -> str | None:
    """A boolean that is written as a string."""
    if value in TRUE:
        return None
    if value.lower() in {"false", "no"}:
        return f'is the string "{value}", which Kolla takes for true; write false, without quotes'
    return "is a string; write true or false, without quotes"


def flag_as_string(value: str) -> str:
    """The remark on a string that stands for true."""
    return "is a string, taken for true; write true, without quotes"


def owner(value: str) -> str | None:
    """`user`, `user:` (both mean user:user), `user:group`; ids in place of names."""
    return _names(value, "owner")


def user(value: str) -> str | None:
    """`name`, `name:group`, `uid` or `uid:gid`."""
    if value.endswith(":"):
        return f"{value!r} names no group after the colon; write it, or leave the colon out"
    return _names(value, "user")


def _names(value: str, kind: str) -> str | None:
    problem = text(value)
    if problem is not None:
        return problem
    name, _, group = value.partition(":")
    if not name or ":" in group or value.split() != [value]:
        return f"{value!r} is no {kind}; write it as user, or user:group"
    for part in (name, group):
        if part.isdigit() and part.isascii() and (len(part) > 10 or int(part) > _LARGEST_ID):
            return f"{part} is no id; the largest is {_LARGEST_ID}"
    return None


def capability(value: str) -> str | None:
    """A capability's name (capabilities(7)), with or without CAP_."""
    if value.removeprefix("CAP_") in CAPABILITIES:
        return None
    upper = value.upper().removeprefix("CAP_")
    if upper in CAPABILITIES:
        return f'{value!r} is no capability; write "{upper}"'
    return f'{value!r} is no capability; write a name of capabilities(7), as "NET_BIND_SERVICE"'


def command(value: str) -> str | None:
    """A command as an unquoted shell variable has it."""
    if value.startswith("[") and value.rstrip().endswith("]"):
        # /run_command keeps a list as JSON text: there a string like this would be taken for one.
        try:
            words = parse_json(value)
        except ValueError:
            words = None
        if type(words) is list and all(type(word) is str for word in words):
            return "is a list inside a string; remove the quotes around the list"
    return text(value)


def no_command(value: str) -> str | None:
    """The remark on a command that runs nothing."""
    return None if value.strip(_BLANKS) else "is empty, so nothing is run; say what to run"


def argv(value: list[str]) -> str | None:
    """A command as exact arguments, each already a good text()."""
    if not value or not value[0]:
        return "names no program; let the list begin with one"
    return None


def pattern(value: str) -> str | None:
    """A Python regular expression that compiles."""
    problem = text(value)
    if problem is None and not literal(value):
        from re import compile as compiled
        from re import error as invalid

        try:
            compiled(value)
        except (invalid, OverflowError, RecursionError) as error:
            problem = f"{value!r} is no regular expression: {error}; mend it"
    return problem


def literal(value: str) -> bool:
    """Whether a regular expression is plain text, with or without ^ before it.

    Nearly every one in use is, and `re` takes a third of a whole start to import.
    """
    plain = value[1:] if value[:1] == "^" else value
    return plain != "" and plain.translate(_NO_PUNCTUATION).isalnum()


# --- values together ---------------------------------------------------------------------------


def needed(value: str | None, preserve_properties: bool | str | None) -> str | None:
    """`owner` and `perm` of a config_files entry."""
    if value is None and not preserve_properties:
        return "is missing or null; add it, or set preserve_properties to true"
    return None


def preservable(preserve_properties: bool | str | None, source: str) -> str | None:
    """Whether there are properties that could be preserved."""
    if preserve_properties and collapsed(source) == NULL:
        return f"{NULL} has none that a file could have; say owner and perm instead"
    return None


def placement(dest: str, source: str, merge: bool | str | None) -> str | None:
    """Where a config_files entry copies to; all three are good in themselves."""
    source = collapsed(source)
    place = collapsed(dest)
    if source == NULL and place.endswith("/"):
        return f"{NULL} is an empty file, no directory's source; name the file that it is to be"
    if place == "/" and not merge:
        return "would replace /; name the path below it, or set merge to true"
    if place.endswith("/"):
        # Into the directory, under the source's name; a source that ends in / has none.
        place += source.rpartition("/")[2]
    place = place.rstrip("/") or "/"
    source = source.rstrip("/") or "/"
    if place == source:
        return f"is the source itself, {source}; name another path"
    problem = protected(place, bool(merge))
    if problem is not None:
        return problem
    if not merge and source.startswith(place + "/"):
        return f"would replace {place}, which holds the source; name another path"
    if source == "/" or place.startswith(source + "/"):
        return f"{place} lies inside the source; name a path outside"
    return None


def kept(place: str) -> bool:
    """Whether a path is one of this program's own records, or lies among them."""
    return _record(place) is not None


def keep(*places: str) -> None:
    """Count these real paths as records too: a link of the image can lead there from RECORDS."""
    global _INTO_RECORDS, _ABOVE
    linked = tuple(place for place in places if not kept(place))
    if linked:
        _INTO_RECORDS += tuple(f"{place}/" for place in linked)
        _ABOVE = {**_directories_above(linked), **_ABOVE}


def holds_records(place: str) -> bool:
    """Whether this program's own records lie somewhere below a path."""
    return place.rstrip("/") in _ABOVE


def protected(place: str, merge: bool) -> str | None:
    """Why nothing may be copied to this path, which has no slash at its end."""
    if place == MOUNTED or place.startswith(MOUNTED + "/"):
        return f"would write into {MOUNTED}, the mounted configuration; name another path"
    record = _record(place)
    if record is not None:
        return f"would write into {record}, where the records of starts are; name another path"
    if merge:
        return None
    if place in STANDARD:  # what holds MOUNTED is
        return f"would replace {place}; name a path inside it, or set merge to true"
    if place in _ABOVE:
        return f"would replace {place}, which holds {_ABOVE[place]}; name a path inside it"
    return None


def _record(place: str) -> str | None:
    """The record that a path is or lies in."""
    begin = place.rstrip("/") + "/"
    # A walk asks this of each of 100,000 paths.
    if not begin.startswith(_INTO_RECORDS):
        return None
    return next(into[:-1] for into in _INTO_RECORDS if begin.startswith(into))


def _directories_above(paths: tuple[str, ...]) -> dict[str, str]:
    """Each directory that holds one of these paths, and the first that it holds; / is empty."""
    above: dict[str, str] = {}
    for path in paths:
        directory = path.rpartition("/")[0]
        while directory not in above:
            above[directory] = path
            directory = directory.rpartition("/")[0]
    return above


_INTO_RECORDS = tuple(f"{record}/" for record in RECORDS)
_ABOVE = _directories_above(RECORDS)


def collapsed(value: str) -> str:
    """The path with doubled slashes as one; a slash at its end stays."""
    while "//" in value:
        value = value.replace("//", "/")
    return value
