# shellcheck shell=sh
# Runs the image's own first-login script on the terminal of the first to log in. The mark can be made only once.
if [ -t 0 ] && [ -t 1 ] && [ -x /usr/lib/vcl/once/first-login ] &&
    mkdir /var/lib/vcl/first-login/begun 2> /dev/null; then
    /usr/lib/vcl/once/first-login
fi
