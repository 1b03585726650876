set -e
systemctl is-active cron chrony
command -v tmux
