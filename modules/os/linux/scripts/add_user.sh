# $1: name; $2: user id, empty for the next one; $3: `sudo`, or empty. Standard input: the password's hash, or an empty
# line; then the lines of authorized_keys. Further arguments are for what follows.
make_account() {
    shell=/bin/bash
    [ -x $shell ] || shell=/bin/sh
    # `*` is no password and, unlike `!`, no lock: sshd without PAM lets nobody into a locked account, keys or not.
    status=0
    useradd -m -s $shell -c "$mark" -p '*' ${2:+-u "$2"} "$1" || status=$?
    case $status in
    0) ;;
    3) refuse "the image takes no user named $1" ;;
    4) refuse "the image has another user with the id $2" ;;
    9) refuse "the image has a user or group named $1 already" ;;
    *) exit "$status" ;;
    esac
}

take_keys() {
    # The folder is the user's, who may have been in already: a link here would have root write elsewhere.
    for place in "$home/.ssh" "$home/.ssh/authorized_keys"; do
        [ ! -L "$place" ] || refuse "the user made a link of $place"
    done
    if [ -e "$home/.ssh/authorized_keys" ]; then
        read_keys
        return
    fi
    umask 077
    [ -d "$home/.ssh" ] || mkdir "$home/.ssh"
    read_keys
    umask 022
    chown -R "$uid:$gid" "$home/.ssh"
}

read_keys() {
    while IFS= read -r key; do printf '%s\n' "$key"; done >"$home/.ssh/authorized_keys"
}

set_sudo() {
    rule=/etc/sudoers.d/vcl-$uid
    if [ -z "$1" ]; then
        [ ! -e "$rule" ] || rm "$rule"
        return
    fi
    { has sudo && [ -d /etc/sudoers.d ]; } || refuse "the image lets its users be root but has no sudo"
    umask 0227
    printf '#%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$uid" >"$rule"
    umask 022
}

IFS= read -r hash
find_account "$1" || make_account "$@"
find_account "$1"
[ "$full_name" = "$mark" ] || refuse "the image has a user named $1 already"
[ -z "$hash" ] || printf '%s:%s\n' "$1" "$hash" | chpasswd -e
take_keys
set_sudo "$3"
shift 3
