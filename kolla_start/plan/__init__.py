"""What a start would do: decided whole, before anything is changed.

On the container-start path. Nothing here writes: apply.py carries the plan out, `--check` asks
whether its config_files part is empty.

    wanted       the final state: what should be at each path
    originals    what would be there had nothing ever been applied, and what gives it back
    gather       the document's sections, and `sources` what they copy, into the final state
    permissions  owners and modes: folded into the final state, and swept over the rest
    compare      the final state against the disk: steps
    steps        what there is to do, each kind a type
    decide       all of these in order, and one refusal with every fault
"""
