# Runs a service manager of its own, with a bus of its own, until standard input ends: a test that is killed leaves nothing behind.
#
# usage: sh manager.sh FOLDER
#
# systemd refuses to run where the machine was not booted with systemd, for which it looks at /run/systemd/system. The mount
# namespace shows it one; with the PID namespace everything that it started ends.
set -u
folder=$1
cgroup=/sys/fs/cgroup/systemd/hatrack-test-$$
mkdir "$cgroup" 2>/dev/null && echo $$ >"$cgroup/cgroup.procs"
# shellcheck disable=SC2016 # expanded by the inner shell
unshare --mount --pid --fork --kill-child --mount-proc sh -c '
    mount -t tmpfs none /run && mkdir -p /run/systemd/system || exit 1
    export HOME="$0" XDG_RUNTIME_DIR="$0/run" XDG_CONFIG_HOME="$0/config"
    unset DBUS_SESSION_BUS_ADDRESS
    systemd --user >"$0/log" 2>&1 &
    cat >/dev/null' "$folder"
echo $$ 2>/dev/null >/sys/fs/cgroup/systemd/cgroup.procs
find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
rm -rf "$folder"
