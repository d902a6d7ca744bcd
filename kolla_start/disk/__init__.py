"""The one door to the disk: nothing outside this room opens, lists or changes a file.

On the container-start path. Root works here beside directories that a service can write, so a path
is never handed to the kernel whole: it is walked component by component on directory descriptors
(path_resolution(7), openat(2)). It must not decide anything: what belongs where is the plan's
business.

    walk     how a path is gone along, and who could have put there what is found
    planted  what has been found, held open: judged, then given away
    read     what is there
    source   what is copied, and that it still is what the plan saw
    write    what is put there, whole or not at all
    remove   what goes
    storage  what has reached the storage
    sweep    owners of whole trees: `tree` and `level` walk them, `ahead` waits for slow storage
"""
