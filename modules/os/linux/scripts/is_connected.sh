# As for gate. Says where this connection comes from, then all sockets as the kernel lists them: for the same question `ss`
# would have to load five modules first.
stands || gate "$@"
set --
for list in tcp tcp6 udp udp6; do
    [ ! -e /proc/net/$list ] || set -- "$@" /proc/net/$list
done
printf '%s\n' "${SSH_CONNECTION:-}"
exec cat "$@"
