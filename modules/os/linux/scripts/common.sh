# Begins every script. What is refused ends with status 65 and one sentence: it will not work however often it is tried.
#
# A program costs an emulated machine 50 ms, so the shell does what it can by itself. Nothing here waits by counting: the
# other end of the connection has the deadline, and kills this whole process group when it is over.
set -eu
umask 022

refuse() {
    printf '%s\n' "$1" >&2
    exit 65
}

has() {
    command -v "$1" >/dev/null 2>&1
}
