# Ends a control plane when its last user has gone, however it went: tests are killed, interrupted
# and time out, and none of that may leave servers behind.
#
# usage: sh keeper.sh FOLDER LINGER_SECONDS
#
# The servers are in the process group that this shell leads. Each user holds a shared lock on the
# file `users` in FOLDER, which the kernel releases when the user's process ends. Users attach only
# under an exclusive lock on `attach.lock` beside FOLDER and only while `running` exists in it, so
# once that file is removed under the same lock nobody can come any more. The lock on `keeper` says
# that this shell lives.
set -u
folder=$1
linger=$2
cd "$folder" || exit 1
exec 9>keeper
flock --exclusive 9
while :; do
    flock --exclusive users true
    sleep "$linger"
    flock --exclusive ../attach.lock flock --exclusive --nonblock users rm -f running && break
done
cd /
rm -rf "$folder"
kill -KILL 0
