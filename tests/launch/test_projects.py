"""kolla_install_projects: what a developer mounts is installed."""

from launched import OPTIONS, PATH, TREE, as_root
from sandbox import Sandbox


@as_root
def test_projects(sandbox: Sandbox) -> None:
    code = f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start.launch import projects\n"
    argv = ["/usr/bin/python3", OPTIONS, "-c", f"{code}sys.exit(projects.main())"]
    pip = '#!/bin/sh\necho "$@" >> /pip-calls\nenv >> /pip-environment\n[ "$3" != /dev-mode/bad ]\n'
    assert sandbox.run(argv).returncode == 0
    for path in ("/dev-mode/nova", "/dev-mode/cinder", "/dev-mode/.git"):
        sandbox.mkdir(path)
    sandbox.write("/dev-mode/README", "")
    assert sandbox.run(argv).returncode == 0
    sandbox.mkdir("/var/lib/kolla/venv/bin")
    done = sandbox.run(argv)
    assert done.returncode == 1
    assert "/var/lib/kolla/venv/bin/pip: No such file" in done.stderr
    sandbox.write("/var/lib/kolla/venv/bin/pip", pip, mode=0o755)
    assert sandbox.run(argv, env={"PIP_INDEX_URL": "x", "PATH": "/tmp"}).returncode == 0
    assert sandbox.read("/pip-calls") == "install -U /dev-mode/cinder\ninstall -U /dev-mode/nova\n"
    assert "PIP_INDEX_URL" not in sandbox.read("/pip-environment")
    assert f"PATH=/var/lib/kolla/venv/bin:{PATH}\n" in sandbox.read("/pip-environment")
    sandbox.mkdir("/dev-mode/bad")
    done = sandbox.run(argv)
    assert done.returncode == 1
    assert "/dev-mode/bad: pip failed with exit code 1" in done.stderr
