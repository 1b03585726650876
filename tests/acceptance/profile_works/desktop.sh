set -e
# Somebody logs in: X, the session manager, window manager, panel and desktop come, as for one who comes by RDP.
systemctl is-active xrdp xrdp-sesman
useradd -m -s /bin/bash alice
echo alice:secret | chpasswd
xrdp-sesrun -p secret alice
for program in xfce4-session xfwm4 xfce4-panel xfdesktop; do
    tries=0
    until pgrep -u alice -x "$program"; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || {
            echo "$program does not run" >&2
            exit 1
        }
        sleep 1
    done
done
runuser -u alice -- firefox-esr --version
