# $1: host name, empty to leave it; $2: the time, seconds since 1970. Standard input: `root:HASH`, for chpasswd.
knows_itself() {
    [ -e /etc/hosts ] || return 1
    while read -r _ names; do
        for name in $names; do [ "$name" != "$1" ] || return 0; done
    done </etc/hosts
    return 1
}

set_name() {
    read -r now </proc/sys/kernel/hostname
    [ "$now" = "$1" ] || printf '%s\n' "$1" >/proc/sys/kernel/hostname
    kept=
    [ ! -e /etc/hostname ] || read -r kept </etc/hostname || :
    [ "$kept" = "$1" ] || printf '%s\n' "$1" >/etc/hostname
    # Without it sudo asks the name servers for this machine's own name, and waits for them.
    knows_itself "$1" || printf '127.0.1.1\t%s\n' "$1" >>/etc/hosts
}

set_time() {
    off=$(($(date +%s) - $1))
    if [ "$off" -gt 1 ] || [ "$off" -lt -1 ]; then date -s "@$1" >/dev/null; fi
}

# A locked root stays locked: a random password that nobody is told lets nobody in either, and takes 0.2 s to set.
root_has_password() {
    hash=
    while IFS=: read -r name hash _; do [ "$name" != root ] || break; done </etc/shadow
    case $hash in '*'* | '!'*) return 1 ;; esac
}

gate
[ -z "$1" ] || set_name "$1"
set_time "$2"
! root_has_password || chpasswd -e
