"""Mutants that are no mistakes: what no test can notice, and why (see tests/torture/mutants.py).

The keys are Mutant.name. One that no longer is a mutant of the sources fails test_mutants.py.
"""

EQUIVALENT = {
    "disk/level.py Level.reopen: self.fd < 0 -> self.fd <= 0": (
        "0 is a standard stream, which process.py opens where it is closed"
    ),
    "disk/read.py open_if_regular: except (FileNotFoundError, NotADirectoryError) -> "
    "except (FileNotFoundError,)": (
        "the parent was compared before: it is a directory, or among the fresh ones; one that is "
        "exchanged just then ends the start with a message either way"
    ),
    "disk/read.py writable: os.access('.', os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True) -> "
    "os.access('.', os.W_OK | os.X_OK, dir_fd=fd)": (
        "real and effective ids are the same in every way of starting: sudo sets both"
    ),
    "disk/source.py Null.open: os.O_RDONLY | os.O_CLOEXEC -> os.O_CLOEXEC": "O_RDONLY is 0",
    "disk/source.py Source.readable: 292 -> 293": "access(2) is asked more often",
    "disk/tree.py _mend: mode is not None and changes_mode(kind, mode) -> "
    "mode is not None or changes_mode(kind, mode)": "the same is set, with a call more",
    "disk/walk.py Walk.forget: f'{real}/'.startswith(at) and real != '/' -> "
    "f'{real}/'.startswith(at)": "the root is opened again, with a call more",
    "disk/write.py _temporary_name: 8 -> 9": "a longer name, as hard to guess",
    "disk/write.py module: os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW -> "
    "os.O_WRONLY | os.O_CREAT | os.O_EXCL": "with O_EXCL no link is followed, open(2)",
    "plan/decide.py decide: source.settled() -> pass": (
        "a start asks again when all is done, and goes on with a new plan; what --check says was "
        "so when it began, for one generation is read to its end"
    ),
    "plan/draft.py Draft.stands: False -> True (2)": (
        "of what lies deeper the same is said: nothing of the disk is seen there"
    ),
    "plan/sources.py Made.__init__: '' -> 'X'": (
        "the target of a link; without a source it is a directory"
    ),
    "plan/wanted.py Wanted.drop: self.children[parent].discard(name) -> pass": (
        "what is dropped is put again at once, or the document is refused"
    ),
    "plan/ways.py _Later._status: 0 -> 1 (7)": "a time, which nobody asks for",
}
