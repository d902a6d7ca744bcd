"""An image with Red Hat's httpd: /etc/httpd/run leads to /run/httpd, logs to /var/log/httpd."""

from sandbox import Sandbox

NOVA, APACHE = 42436, 48


def furnish(box: Sandbox) -> None:
    box.adduser("apache", APACHE)
    box.adduser("nova", NOVA)
    box.mkdir("/run/httpd", mode=0o710, owner="root:apache")
    box.mkdir("/run/httpd/htcacheclean", mode=0o700)
    box.mkdir("/var/log/httpd", mode=0o700)
    box.write("/etc/httpd/conf/httpd.conf", "the image's")
    box.symlink("../../run/httpd", "/etc/httpd/run")
    box.symlink("../../var/log/httpd", "/etc/httpd/logs")
    box.symlink("/nowhere", "/etc/httpd/state")
    box.mark()
