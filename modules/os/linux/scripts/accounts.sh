# Accounts that are ours carry this as their full name; others, the image's own, are never touched.
mark='VCL user'

# Sets uid, gid, full_name and home of a local account; false if there is none.
find_account() {
    while IFS=: read -r name _ uid gid full_name home _; do
        [ "$name" != "$1" ] || return 0
    done </etc/passwd
    return 1
}

has_processes() {
    # shellcheck disable=SC2009 # pgrep counts the dead whose parent has not asked for them, too
    ps -o stat= -u "$1" | grep -qv '^Z'
}

# $1: user id. logind lets go of a user who has nothing left, and of their /run/user, a moment after.
end_processes() {
    has pkill || refuse "the image cannot end a user's processes: it has no pkill (package procps)"
    known=/run/systemd/users/$1
    [ ! -e "$known" ] || loginctl terminate-user "$1" || :
    pkill -KILL -u "$1" || [ -e "$known" ] || return 0
    while [ -e "$known" ] || has_processes "$1"; do
        sleep 0.1
        pkill -KILL -u "$1" || :
    done
}

# Ends what the account runs, and removes it with all that it left where everybody may leave things.
delete_account() {
    find_account "$1" || return 0
    [ "$full_name" = "$mark" ] || return 0
    rm -f "/etc/sudoers.d/vcl-$uid" "/var/spool/cron/crontabs/$1" "/var/spool/cron/$1" "/var/spool/mail/$1" \
        "/var/mail/$1" "/var/lib/systemd/linger/$1"
    end_processes "$uid"
    for place in /tmp /var/tmp /dev/shm /run/lock /var/spool/cron/atjobs /var/spool/at /var/crash; do
        [ ! -d "$place" ] || find "$place" -xdev -mindepth 1 -depth -user "$uid" -delete 2>/dev/null || :
    done
    # -f: the last of the processes may not have been buried yet. What -r does not dare to remove is removed here.
    userdel -f -r "$1" >/dev/null 2>&1 || ! find_account "$1"
    case $home in /home/?*) rm -rf --one-file-system "$home" ;; esac
}

delete_accounts() {
    ours=$(while IFS=: read -r account _ _ _ marked _; do
        [ "$marked" != "$mark" ] || echo "$account"
    done </etc/passwd)
    for account in $ours; do delete_account "$account"; done
}
