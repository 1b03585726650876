# $1: user; $2: one line. To every terminal of theirs; one that is stopped keeps nobody waiting.
terminals=$(find /dev/pts /dev/tty[0-9]* /dev/ttyS* -type c -user "$1" 2>/dev/null || :)
for terminal in $terminals; do
    # shellcheck disable=SC2016 # meant for the shell in there
    timeout 5 sh -c 'printf "\r\n\a*** %s ***\r\n" "$2" >"$1"' vcl "$terminal" "$2" &
done
wait
